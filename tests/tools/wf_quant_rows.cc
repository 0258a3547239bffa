// SPDX-License-Identifier: Apache-2.0
// wf_quant_rows COMMAND TYPE K IN OUT [SCALE]: rows of K elements through quant/pack.h, raw files on both sides, for
// comparison with other implementations.
//   quantise     f32 to a dense type          dequantise   and back
//   pack         i8 of {-1, 0, 1} to a ternary type, with SCALE as each stored scale
//   unpack       and back: the values as f32, each times its stored scale (1 for I2_S)
// And wf_quant_rows speed: packs and unpacks 64 Mi weights as every ternary type, quantises 4 Mi as every dense one,
// and prints millions a second.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "wf/quant/dense.h"
#include "wf/quant/pack.h"

namespace {

const wf::TensorTypeInfo* TypeByName(const std::string& name) {
  for (const wf::TensorTypeInfo& t : wf::kTensorTypes) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

template <class T>
bool ReadAll(const char* path, std::vector<T>* out) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (!in.good() && !in.eof()) return false;
  out->resize(bytes.size() / sizeof(T));
  if (!out->empty()) std::memcpy(out->data(), bytes.data(), out->size() * sizeof(T));
  return true;
}
template <class T>
bool WriteAll(const char* path, const std::vector<T>& v) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(v.data()), static_cast<std::streamsize>(v.size() * sizeof(T)));
  return out.good();
}

int Fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  return 1;
}

// Bytes of one row; for packed types that have none of their own (I2_S), k must fit a whole group.
size_t RowBytes(const wf::TensorTypeInfo& t, size_t k) {
  uint64_t bytes = 0;
  const size_t rows = t.type == wf::TensorType::kIQ2_BN_R4 || t.type == wf::TensorType::kI2_S_X4 ? 4 : 1;
  if (!wf::TensorBytes(t, k, rows, &bytes)) return 0;
  return static_cast<size_t>(bytes - (wf::IsI2s(t.type) ? 32 : 0)) / rows;
}

int Quantise(const wf::TensorTypeInfo& t, size_t k, bool back, const char* in, const char* out) {
  wf::DenseType dense{};
  if (!wf::ToDenseType(t.type, &dense)) return Fail("not a dense type: " + std::string(t.name));
  const size_t row_bytes = RowBytes(t, k);
  if (back) {
    std::vector<uint8_t> bytes;
    if (!ReadAll(in, &bytes)) return Fail("cannot read");
    std::vector<float> y(bytes.size() / row_bytes * k);
    for (size_t r = 0; r < bytes.size() / row_bytes; ++r) wf::DequantRow(dense, bytes.data(), r, k, y.data() + r * k);
    return WriteAll(out, y) ? 0 : Fail("cannot write");
  }
  std::vector<float> x;
  if (!ReadAll(in, &x)) return Fail("cannot read");
  std::vector<uint8_t> bytes(x.size() / k * row_bytes);
  for (size_t r = 0; r < x.size() / k; ++r) {
    wf::QuantiseDenseRow(t.type, x.data() + r * k, k, bytes.data() + r * row_bytes);
  }
  return WriteAll(out, bytes) ? 0 : Fail("cannot write");
}

int Pack(const wf::TensorTypeInfo& t, size_t k, bool back, const char* in, const char* out, float scale) {
  if (!wf::IsPackedTernary(t.type)) return Fail("not a packed ternary type: " + std::string(t.name));
  const size_t row_bytes = RowBytes(t, k);
  if (back) {
    std::vector<uint8_t> bytes;
    if (!ReadAll(in, &bytes)) return Fail("cannot read");
    const size_t rows = bytes.size() / row_bytes;
    const size_t group = wf::TernaryScaleSize(t.type) == 0 ? k : wf::TernaryScaleSize(t.type);
    std::vector<int8_t> values(k);
    std::vector<float> y(rows * k), scales(k / group);
    for (size_t r = 0; r < rows; ++r) {
      wf::UnpackTernary(t.type, bytes.data(), r, k, values.data(), scales.data());
      for (size_t c = 0; c < k; ++c) y[r * k + c] = scales[c / group] * static_cast<float>(values[c]);
    }
    return WriteAll(out, y) ? 0 : Fail("cannot write");
  }
  std::vector<int8_t> values;
  if (!ReadAll(in, &values)) return Fail("cannot read");
  std::vector<uint8_t> bytes(values.size() / k * row_bytes);
  wf::PackTernary(t.type, values.data(), values.size() / k, k, wf::StoredTernaryScale(t.type, scale), bytes.data());
  return WriteAll(out, bytes) ? 0 : Fail("cannot write");
}

// By the time of the processor, not of the wall: the machine may be busy.
template <class F>
double MillionsPerSecond(size_t n, const F& f) {
  const std::clock_t begin = std::clock();
  f();
  return static_cast<double>(n) / 1e6 * CLOCKS_PER_SEC / static_cast<double>(std::clock() - begin);
}

int Speed() {
  constexpr size_t kK = 4096, kRows = 16384, kDenseRows = 1024;
  std::vector<int8_t> values(kK * kRows);
  std::vector<float> x(kK * kDenseRows);
  uint32_t seed = 1;
  for (int8_t& v : values) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<int8_t>(static_cast<int>((seed >> 16) % 3) - 1);
  }
  for (float& v : x) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
  }
  std::vector<uint8_t> out(values.size());
  std::vector<int8_t> row(kK);
  for (const wf::TensorTypeInfo& t : wf::kTensorTypes) {
    wf::DenseType dense{};
    if (wf::IsPackedTernary(t.type)) {
      std::fill(out.begin(), out.end(), uint8_t{1});  // no page faults in the figures
      const double pack = MillionsPerSecond(
          values.size(), [&] { wf::PackTernary(t.type, values.data(), kRows, kK, 0.5f, out.data()); });
      const double unpack = MillionsPerSecond(values.size(), [&] {
        for (size_t r = 0; r < kRows; ++r) wf::UnpackTernary(t.type, out.data(), r, kK, row.data(), nullptr);
      });
      std::printf("%-11s pack %7.0f M/s, unpack %7.0f M/s\n", std::string(t.name).c_str(), pack, unpack);
    } else if (wf::ToDenseType(t.type, &dense)) {
      const double rate = MillionsPerSecond(x.size(), [&] {
        for (size_t r = 0; r < kDenseRows; ++r) {
          wf::QuantiseDenseRow(t.type, x.data() + r * kK, kK, out.data() + r * RowBytes(t, kK));
        }
      });
      std::printf("%-11s quantise %7.0f M/s\n", std::string(t.name).c_str(), rate);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "speed") return Speed();
  if (argc < 6) return Fail("usage: wf_quant_rows quantise|dequantise|pack|unpack TYPE K IN OUT [SCALE]");
  const wf::TensorTypeInfo* t = TypeByName(argv[2]);
  const size_t k = std::strtoull(argv[3], nullptr, 10);
  if (t == nullptr || k == 0 || RowBytes(*t, k) == 0) return Fail("unknown type, or rows that do not fit it");
  if (command == "quantise" || command == "dequantise") {
    return Quantise(*t, k, command == "dequantise", argv[4], argv[5]);
  }
  if (command == "pack" || command == "unpack") {
    return Pack(*t, k, command == "unpack", argv[4], argv[5], argc > 6 ? std::strtof(argv[6], nullptr) : 1.0f);
  }
  return Fail("unknown command " + command);
}
