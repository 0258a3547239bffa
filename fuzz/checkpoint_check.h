// SPDX-License-Identifier: Apache-2.0
// What must hold of any checkpoint that a reader accepts, whatever bytes it came from. Shared by the harnesses of the
// formats.
#ifndef WF_FUZZ_CHECKPOINT_CHECK_H_
#define WF_FUZZ_CHECKPOINT_CHECK_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "wf/formats/checkpoint.h"

namespace wf::fuzz {

inline void Require(bool ok, const char* what, const std::string& message = {}) {
  if (ok) return;
  std::fprintf(stderr, "%s %s\n", what, message.c_str());
  std::abort();
}

// `file` was given the name "fuzz". Returns the sum of the tensors' bytes.
inline uint64_t CheckCheckpoint(const Result<Checkpoint>& c, std::string_view file) {
  if (!c.ok()) {
    Require(c.status().message().rfind("fuzz: ", 0) == 0, "a message without its file:", c.status().message());
    Require(c.status().code() != ErrorCode::kInternal, "an internal error:", c.status().message());
    return 0;
  }
  const auto* data = reinterpret_cast<const uint8_t*>(file.data());
  unsigned sum = 0;
  uint64_t bytes = 0;
  const CheckpointTensor* before = nullptr;
  for (const CheckpointTensor& t : c->tensors()) {
    Require(before == nullptr || before->name < t.name, "names are not in order");
    before = &t;
    Require(c->Find(t.name) == &t, "a tensor is not found");
    Require(t.elements() * ElementTypeBytes(t.type) == t.bytes, "shape and size differ");
    Require(t.file_offset <= file.size(), "a tensor lies outside");
    if (t.data >= data && t.data <= data + file.size()) {
      Require(t.bytes <= file.size() - t.file_offset, "a tensor lies outside");
      Require(t.data == data + t.file_offset, "data and offset differ");
    }
    // All of it: a sanitizer knows the copies' ends.
    for (uint64_t i = 0; i<t.bytes; i += t.bytes> 4096 && i + 1024 < t.bytes ? 1024 : 1) sum += t.data[i];
    bytes += t.bytes;
  }
  volatile unsigned sink = sum;
  (void)sink;
  return bytes;
}

}  // namespace wf::fuzz
#endif  // WF_FUZZ_CHECKPOINT_CHECK_H_
