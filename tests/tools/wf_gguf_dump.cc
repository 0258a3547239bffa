// SPDX-License-Identifier: Apache-2.0
// wf_gguf_dump FILE: prints what the GGUF reader sees as one JSON object: values with their packed bytes in
// hex, tensors with type, shape, place and the FNV-1a hash of their data. Exit code 1 and the message on
// stderr for files that are refused. For comparison with other readers; users have wf-inspect.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "tests/tools/dump.h"
#include "wf/formats/gguf.h"

using wf::test::Fnv1a;
using wf::test::Hex;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: wf_gguf_dump FILE\n");
    return 2;
  }
  const wf::Result<wf::Gguf> g = wf::Gguf::Open(argv[1]);
  if (!g.ok()) {
    std::fprintf(stderr, "%s\n", g.status().message().c_str());
    return 1;
  }
  std::string out = "{\"version\":" + std::to_string(g->version()) +
                    ",\"alignment\":" + std::to_string(g->alignment()) +
                    ",\"data_offset\":" + std::to_string(g->data_offset()) + ",\"values\":[";
  for (const wf::GgufValue& v : g->values()) {
    if (out.back() != '[') out += ',';
    out += "\n{\"key\":\"" + Hex(v.key) + "\",\"type\":" + std::to_string(static_cast<uint32_t>(v.type)) +
           ",\"element\":" + std::to_string(static_cast<uint32_t>(v.element)) +
           ",\"count\":" + std::to_string(v.count) + ",\"raw\":\"" + Hex(v.raw) + "\"}";
  }
  out += "],\"tensors\":[";
  for (const wf::GgufTensor& t : g->tensors()) {
    if (out.back() != '[') out += ',';
    std::string ne;
    for (uint32_t i = 0; i < t.n_dims; ++i) ne += (i == 0 ? "" : ",") + std::to_string(t.ne[i]);
    out += "\n{\"name\":\"" + Hex(t.name) + "\",\"type\":" + std::to_string(static_cast<uint32_t>(t.type)) +
           ",\"type_name\":\"" + std::string(wf::TensorTypeName(t.type)) + "\",\"ne\":[" + ne +
           "],\"offset\":" + std::to_string(t.file_offset) + ",\"bytes\":" + std::to_string(t.bytes) + ",\"fnv1a\":\"" +
           std::to_string(Fnv1a({reinterpret_cast<const char*>(t.data), t.bytes})) + "\"}";
  }
  out += "]}\n";
  std::fputs(out.c_str(), stdout);
  return 0;
}
