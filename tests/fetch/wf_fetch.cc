// SPDX-License-Identifier: Apache-2.0
// wf_fetch URI: downloads a checkpoint into the cache and prints its folder.
// wf_fetch --key FOLDER OPTIONS: prints the path of its conversion in the cache.
// wf_fetch --convert FOLDER OPTIONS: makes that file, with the text "made", and prints its path.
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "tools/cli.h"
#include "tools/fetch.h"
#include "tools/model_cache.h"
#include "wf/base/mmap.h"

namespace {

wf::Status Make(const std::string& path) {
  std::fprintf(stderr, "making %s\n", path.c_str());
  ::usleep(500000);
  WF_ASSIGN(wf::AtomicFile file, wf::AtomicFile::Create(path));
  WF_TRY(file.Write("made", 4));
  return file.Commit();
}

wf::Result<std::string> Run(int argc, char** argv, const std::atomic<bool>* interrupted) {
  const std::string_view mode = argv[1];
  if (argc == 4 && mode == "--key") {
    WF_ASSIGN(const std::string root, wf::CacheRoot());
    WF_ASSIGN(const std::string key, wf::CacheKey(argv[2], argv[3], interrupted));
    return wf::CachePath(root, key);
  }
  if (argc == 4 && mode == "--convert") return wf::CachedConversion(argv[2], argv[3], Make, interrupted);
  if (!wf::IsRemote(argv[1])) return wf::InvalidArgument(std::string(argv[1]) + ": not remote");
  wf::FetchOptions options;
  options.interrupted = interrupted;
  return wf::FetchCheckpoint(argv[1], options);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    std::fprintf(stderr, "usage: wf_fetch URI | --key FOLDER OPTIONS | --convert FOLDER OPTIONS\n");
    return wf::kExitUsage;
  }
  const wf::Result<std::string> path = Run(argc, argv, wf::CatchInterrupts());
  if (!path.ok()) return wf::Fail("wf_fetch", path.status());
  std::printf("%s\n", path->c_str());
  return 0;
}
