// SPDX-License-Identifier: Apache-2.0
// Fuzzes PyTorch's checkpoints: an input that begins like a zip archive is one, any other is the data.pkl of an archive
// with two storages, so that the fuzzer reaches the pickle without keeping zip headers right. Either is refused or
// becomes tensors whose every byte can be read, views in the file and copies alike.
#include "wf/formats/pickle.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/checkpoint_check.h"
#include "wf/base/bytes.h"
#include "wf/formats/torch_zip.h"

namespace {

template <class T>
void Put(std::string* out, T v) {
  char b[sizeof(T)];
  wf::StoreLe(b, v);
  out->append(b, sizeof(T));
}

struct Entry {
  std::string_view name, data;
};

// A zip archive of stored entries.
std::string Archive(const std::vector<Entry>& entries) {
  std::string s, directory;
  for (const Entry& e : entries) {
    std::string common;  // what both headers have: version, flags, method, time, date, checksum, sizes, lengths
    common.append("\x14", 1).append(13, '\0');
    for (int i = 0; i < 2; ++i) Put(&common, static_cast<uint32_t>(e.data.size()));
    Put(&common, static_cast<uint32_t>(e.name.size()));
    directory.append("PK\1\2\x14\0", 6).append(common).append(10, '\0');
    Put(&directory, static_cast<uint32_t>(s.size()));
    directory.append(e.name);
    s.append("PK\3\4").append(common).append(e.name).append(e.data);
  }
  const auto offset = static_cast<uint32_t>(s.size()), bytes = static_cast<uint32_t>(directory.size());
  s += directory;
  s.append("PK\5\6").append(4, '\0');
  for (int i = 0; i < 2; ++i) Put(&s, static_cast<uint16_t>(entries.size()));
  Put(&s, bytes);
  Put(&s, offset);
  return s.append(2, '\0');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.substr(0, 2) == "PK") {
    wf::fuzz::CheckCheckpoint(wf::Checkpoint::ParseTorch(input, "fuzz"), input);
    return 0;
  }
  static const std::string kStorage(192, 'x');
  const std::string file = Archive({{"a/data.pkl", input}, {"a/data/0", kStorage}, {"a/data/1", "12345678"}});
  wf::fuzz::Require(wf::ReadZip(file).ok(), "the harness's own archive is refused");
  wf::fuzz::CheckCheckpoint(wf::Checkpoint::ParseTorch(file, "fuzz"), file);
  return 0;
}
