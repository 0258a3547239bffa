// SPDX-License-Identifier: Apache-2.0
// Fuzzes the GGUF reader: any bytes are refused or become views that can all be read, and whatever the
// reader accepts, the writer can lay out again (but for layouts that it never writes).
#include "wf/formats/gguf.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "wf/formats/gguf_writer.h"

namespace {

void Require(bool ok, const char* what, const std::string& message = {}) {
  if (ok) return;
  std::fprintf(stderr, "%s %s\n", what, message.c_str());
  std::abort();
}

void ReadValues(const wf::Gguf& g) {
  for (const wf::GgufValue& v : g.values()) {
    Require(g.Find(v.key) == &v, "a key is not found");
    (void)g.GetUint(v.key).ok();
    (void)g.GetInt(v.key).ok();
    (void)g.GetFloat(v.key).ok();
    (void)g.GetBool(v.key).ok();
    (void)g.GetString(v.key).ok();
    (void)g.GetIntArray(v.key).ok();
    (void)g.GetFloatArray(v.key).ok();
    if (const auto strings = g.GetStringArray(v.key); strings.ok()) {
      size_t sum = 0;
      for (const std::string_view s : *strings) sum += 8 + s.size();
      Require(sum == v.raw.size(), "strings do not fill their array");
    }
  }
}

void ReadTensors(const wf::Gguf& g, std::string_view file) {
  unsigned sum = 0;
  for (const wf::GgufTensor& t : g.tensors()) {
    Require(g.FindTensor(t.name) == &t, "a tensor is not found");
    Require(t.bytes > 0 && t.file_offset >= g.data_offset() && t.file_offset <= file.size() &&
                t.bytes <= file.size() - t.file_offset,
            "a tensor lies outside");
    sum += t.data[0];
    sum += t.data[t.bytes - 1];
  }
  volatile unsigned sink = sum;
  (void)sink;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const wf::Result<wf::Gguf> g = wf::Gguf::Parse(file, "fuzz.gguf");
  if (!g.ok()) {
    Require(g.status().message().rfind("fuzz.gguf: ", 0) == 0, "a message without its file:", g.status().message());
    return 0;
  }
  ReadValues(*g);
  ReadTensors(*g, file);
  wf::GgufWriter w;
  for (const wf::GgufValue& v : g->values()) w.SetRaw(v);
  bool writable = true;  // without layouts that have no id of their own
  for (const wf::GgufTensor& t : g->tensors()) {
    writable = writable && wf::IsFileTypeId(static_cast<uint32_t>(t.type));
    w.AddTensor(t.name, t.type, {t.ne, t.ne + t.n_dims});
  }
  const wf::Result<uint64_t> bytes = w.FileBytes();
  Require(bytes.ok() == writable, "the writer and the reader disagree:", bytes.status().message());
  return 0;
}
