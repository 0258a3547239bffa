// SPDX-License-Identifier: Apache-2.0
// Fuzzes the reader of sgl-kernel's .bin: any bytes are refused or become tensors that lie inside and apart.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuzz/checkpoint_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const uint64_t bytes = wf::fuzz::CheckCheckpoint(wf::Checkpoint::ParseSgl(file, "fuzz"), file);
  wf::fuzz::Require(bytes <= size, "tensors overlap");
  return 0;
}
