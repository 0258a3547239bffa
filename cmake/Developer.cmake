# SPDX-License-Identifier: Apache-2.0
# wf_developer: warnings and sanitizers for what is built here, linked PRIVATE; consumers never see it.
add_library(wf_developer INTERFACE)
if(WF_DEVELOPER)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  target_compile_options(wf_developer INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
endif()
if(WF_SANITIZE)
  # Global, because a program is sanitized as a whole or not at all.
  add_compile_options(-fsanitize=${WF_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${WF_SANITIZE})
endif()
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
