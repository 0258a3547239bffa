// SPDX-License-Identifier: Apache-2.0
// wf_gguf_copy FROM TO: reads a GGUF and writes all of it again through GgufWriter, in the order of the
// tensor table. For tests of the writer against other readers.
#include <cstdio>

#include "wf/formats/gguf.h"
#include "wf/formats/gguf_writer.h"

namespace {

wf::Status Copy(const char* from, const char* to) {
  WF_ASSIGN(const wf::Gguf g, wf::Gguf::Open(from));
  wf::GgufWriter w;
  for (const wf::GgufValue& v : g.values()) w.SetRaw(v);
  for (const wf::GgufTensor& t : g.tensors()) w.AddTensor(t.name, t.type, {t.ne, t.ne + t.n_dims});
  WF_TRY(w.Begin(to));
  for (const wf::GgufTensor& t : g.tensors()) WF_TRY(w.WriteTensorData(t.data, t.bytes));
  return w.Finish();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: wf_gguf_copy FROM TO\n");
    return 2;
  }
  const wf::Status s = Copy(argv[1], argv[2]);
  if (!s.ok()) std::fprintf(stderr, "%s\n", s.message().c_str());
  return s.ok() ? 0 : 1;
}
