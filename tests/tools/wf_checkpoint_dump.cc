// SPDX-License-Identifier: Apache-2.0
// wf_checkpoint_dump FILE|FOLDER: prints what the checkpoint reader sees as one JSON object, tensor by tensor with the
// FNV-1a hash of the data. Exit code 1 and the message on stderr for what is refused.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "tests/tools/dump.h"
#include "wf/formats/checkpoint.h"

using wf::test::Fnv1a;
using wf::test::Hex;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: wf_checkpoint_dump FILE|FOLDER\n");
    return 2;
  }
  const wf::Result<wf::Checkpoint> s = wf::Checkpoint::Open(argv[1]);
  if (!s.ok()) {
    std::fprintf(stderr, "%s\n", s.status().message().c_str());
    return 1;
  }
  std::string out = "{\"shards\":" + std::to_string(s->shards().size()) +
                    ",\"warnings\":" + std::to_string(s->warnings().size()) + ",\"config\":\"" + Hex(s->config_json()) +
                    "\",\"tensors\":[";
  for (const wf::CheckpointTensor& t : s->tensors()) {
    if (out.back() != '[') out += ',';
    std::string shape;
    for (const uint64_t d : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    out += "\n{\"name\":\"" + Hex(t.name) + "\",\"dtype\":\"" + wf::ElementTypeName(t.type) + "\",\"shape\":[" + shape +
           "],\"bytes\":" + std::to_string(t.bytes) + ",\"shard\":" + std::to_string(t.shard) +
           ",\"scale\":" + (t.scale ? std::to_string(*t.scale) : "null") + ",\"fnv1a\":\"" +
           std::to_string(Fnv1a({reinterpret_cast<const char*>(t.data), t.bytes})) + "\"}";
  }
  out += "]}\n";
  std::fputs(out.c_str(), stdout);
  return 0;
}
