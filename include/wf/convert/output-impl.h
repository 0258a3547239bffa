// SPDX-License-Identifier: Apache-2.0
// Checks of the place that a converted file will have, before work begins. Part of the bodies of convert.h and
// requantise.h.
#ifndef WF_CONVERT_OUTPUT_IMPL_H_
#define WF_CONVERT_OUTPUT_IMPL_H_

#include <sys/statvfs.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "wf/base/quote.h"
#include "wf/base/status.h"

namespace wf::detail {

// Relative errors up to this are the last place of f32, not a type's.
inline constexpr double kScaleNoise = 1e-7;

inline std::string PercentText(double part) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g %%", 100 * part);
  return text;
}

// The same existing file, whatever the two paths are.
inline bool IsSameFile(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code ec;
  return std::filesystem::equivalent(a, b, ec) && !ec;
}

// Nothing that exists may be lost by the rename but an older output; and there must be room.
inline Status CheckOutputPlace(const std::string& output, uint64_t bytes) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const fs::file_status status = fs::status(output, ec);
  if (fs::is_directory(status)) return InvalidArgument(output + ": is a folder, expected a file name");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return InvalidArgument(output + ": exists and is not a regular file");
  }
  const fs::path parent = fs::path(output).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (!fs::is_directory(folder, ec)) return NotFound(output + ": there is no folder " + Quote(folder));
  struct statvfs vfs {};
  if (::statvfs(folder.c_str(), &vfs) != 0) return OkStatus();  // then the writes will tell
  const uint64_t free = static_cast<uint64_t>(vfs.f_bavail) * vfs.f_frsize;
  if (free < bytes) {
    return IoError(output + ": disk full: " + std::to_string(bytes) + " bytes are needed, " + std::to_string(free) +
                   " are free");
  }
  return OkStatus();
}

}  // namespace wf::detail
#endif  // WF_CONVERT_OUTPUT_IMPL_H_
