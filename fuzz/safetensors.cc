// SPDX-License-Identifier: Apache-2.0
// Fuzzes the safetensors reader: any bytes are refused or become tensors that lie inside, in order of name.
#include "wf/formats/safetensors.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

void Require(bool ok, const char* what, const std::string& message = {}) {
  if (ok) return;
  std::fprintf(stderr, "%s %s\n", what, message.c_str());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const wf::Result<wf::Safetensors> s = wf::Safetensors::Parse(file, "fuzz");
  if (!s.ok()) {
    Require(s.status().message().rfind("fuzz: ", 0) == 0, "a message without its file:", s.status().message());
    return 0;
  }
  unsigned sum = 0;
  uint64_t bytes = 0;
  const wf::SafetensorsTensor* before = nullptr;
  for (const wf::SafetensorsTensor& t : s->tensors()) {
    Require(before == nullptr || before->name < t.name, "names are not in order");
    before = &t;
    Require(s->Find(t.name) == &t, "a tensor is not found");
    Require(t.elements() * wf::SafetensorsTypeBytes(t.type) == t.bytes, "shape and size differ");
    Require(t.file_offset <= size && t.bytes <= size - t.file_offset, "a tensor lies outside");
    Require(t.data == data + t.file_offset, "data and offset differ");
    if (t.bytes != 0) sum += t.data[0] + 0u + t.data[t.bytes - 1];
    bytes += t.bytes;
  }
  volatile unsigned sink = sum;
  (void)sink;
  Require(bytes <= size, "tensors overlap");
  return 0;
}
