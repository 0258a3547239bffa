// SPDX-License-Identifier: Apache-2.0
// Builds GGUF files byte by byte for tests, right and wrong ones: it checks nothing and knows nothing of
// GgufWriter. Also the worked example of formats.md 1.1.
#ifndef WF_TESTS_FORMATS_GGUF_BYTES_H_
#define WF_TESTS_FORMATS_GGUF_BYTES_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace wf::test {

class Bytes {
 public:
  std::string s;
  template <class T>
  Bytes& Put(T v) {
    char b[sizeof(T)];
    std::memcpy(b, &v, sizeof(T));
    s.append(b, sizeof(T));
    return *this;
  }
  Bytes& U8(uint8_t v) { return Put(v); }
  Bytes& U32(uint32_t v) { return Put(v); }
  Bytes& U64(uint64_t v) { return Put(v); }
  Bytes& F32(float v) { return Put(v); }
  Bytes& Raw(std::string_view v) {
    s.append(v);
    return *this;
  }
  Bytes& Str(std::string_view v) { return U64(v.size()).Raw(v); }
  Bytes& Zeros(size_t n) {
    s.append(n, '\0');
    return *this;
  }
  Bytes& PadTo(size_t align) { return Zeros((align - s.size() % align) % align); }
};

inline std::string FromHex(std::string_view hex) {
  std::string out;
  int high = -1;
  for (const char c : hex) {
    const int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (v < 0) continue;
    if (high < 0) {
      high = v;
    } else {
      out += static_cast<char>(high * 16 + v);
      high = -1;
    }
  }
  return out;
}

inline Bytes GgufHeader(uint64_t tensors, uint64_t values, uint32_t version = 3) {
  Bytes b;
  b.Raw("GGUF").U32(version).U64(tensors).U64(values);
  return b;
}

struct TensorLine {
  std::string name;
  std::vector<uint64_t> ne;
  uint32_t type = 0;
  uint64_t offset = 0;
};

// A file with these metadata bytes, tensor lines, and `data` bytes of tensor data.
inline std::string GgufFile(const std::vector<TensorLine>& tensors, size_t data, uint64_t values = 0,
                            std::string_view metadata = {}, size_t alignment = 32) {
  Bytes b = GgufHeader(tensors.size(), values);
  b.Raw(metadata);
  for (const TensorLine& t : tensors) {
    b.Str(t.name).U32(static_cast<uint32_t>(t.ne.size()));
    for (const uint64_t n : t.ne) b.U64(n);
    b.U32(t.type).U64(t.offset);
  }
  b.PadTo(alignment).Zeros(data);
  return b.s;
}

// Written by PyPI gguf: 448 bytes, 5 values, 2 tensors.
inline std::string WorkedExample() {
  return FromHex(
      "4747554603000000020000000000000005000000000000001400000000000000"
      "67656e6572616c2e617263686974656374757265080000000500000000000000"
      "6c6c616d6111000000000000006c6c616d612e626c6f636b5f636f756e740400"
      "00000100000026000000000000006c6c616d612e617474656e74696f6e2e6c61"
      "7965725f6e6f726d5f726d735f657073696c6f6e06000000acc5273715000000"
      "00000000746f6b656e697a65722e67676d6c2e746f6b656e7309000000080000"
      "0002000000000000000100000000000000610300000000000000c4a0621c0000"
      "0000000000746f6b656e697a65722e67676d6c2e6164645f626f735f746f6b65"
      "6e070000000112000000000000006f75747075745f6e6f726d2e776569676874"
      "0100000002000000000000000000000000000000000000000800000000000000"
      "742e776569676874020000000300000000000000020000000000000001000000"
      "2000000000000000000000000000000000000000000000000000000000000000"
      "0000803f00000040000000000000000000000000000000000000000000000000"
      "0000003c00400042004400450000000000000000000000000000000000000000");
}

}  // namespace wf::test
#endif  // WF_TESTS_FORMATS_GGUF_BYTES_H_
