// SPDX-License-Identifier: Apache-2.0
// The version's single source: CMake and packages parse these lines.
#ifndef WF_VERSION_H_
#define WF_VERSION_H_
#define WF_VERSION_MAJOR 0
#define WF_VERSION_MINOR 1
#define WF_VERSION_PATCH 0
#define WF_VERSION (WF_VERSION_MAJOR * 10000 + WF_VERSION_MINOR * 100 + WF_VERSION_PATCH)
#define WF_VERSION_STRING "0.1.0"
#endif
