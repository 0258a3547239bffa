// SPDX-License-Identifier: Apache-2.0
// Reading a checkpoint's tensors in pieces: as floats, or as ternary values with their scale, whatever form they have
// there. Part of convert.h's bodies.
#ifndef WF_CONVERT_SOURCE_IMPL_H_
#define WF_CONVERT_SOURCE_IMPL_H_

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "wf/base/bytes.h"
#include "wf/base/half.h"
#include "wf/base/quote.h"
#include "wf/base/status.h"
#include "wf/convert/convert.h"
#include "wf/quant/ternary.h"

namespace wf::detail {

// Elements handled at once: a multiple of I2_S's group, small enough for the cache.
inline constexpr size_t kConvertChunk = size_t{1} << 16;

inline bool IsFloat(SafetensorsType t) noexcept {
  return t == SafetensorsType::kF32 || t == SafetensorsType::kF16 || t == SafetensorsType::kBF16;
}
inline std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return s + "]";
}
inline std::string FloatText(float v) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", static_cast<double>(v));
  return text;
}

inline float FloatAt(const SafetensorsTensor& t, uint64_t i) noexcept {
  if (t.type == SafetensorsType::kF32) return LoadLe<float>(t.data + 4 * i);
  const uint16_t h = LoadLe<uint16_t>(t.data + 2 * i);
  return t.type == SafetensorsType::kF16 ? F32FromF16(h) : F32FromBf16(h);
}

// Elements [begin, begin + out.size()) of a float tensor; an error names the first that is not finite.
inline Status ReadFloats(const SafetensorsTensor& t, uint64_t begin, std::span<float> out) {
  const size_t n = out.size();
  const uint8_t* p = t.data + begin * SafetensorsTypeBytes(t.type);
  switch (t.type) {
    case SafetensorsType::kF32:
      for (size_t i = 0; i < n; ++i) out[i] = LoadLe<float>(p + 4 * i);
      break;
    case SafetensorsType::kF16:
      for (size_t i = 0; i < n; ++i) out[i] = F32FromF16(LoadLe<uint16_t>(p + 2 * i));
      break;
    default:
      for (size_t i = 0; i < n; ++i) out[i] = F32FromBf16(LoadLe<uint16_t>(p + 2 * i));
  }
  uint32_t worst = 0;  // the largest exponent: all ones is NaN or infinity
  for (size_t i = 0; i < n; ++i) worst = std::max(worst, std::bit_cast<uint32_t>(out[i]) & 0x7f800000u);
  if (worst != 0x7f800000u) return OkStatus();
  for (size_t i = 0; i < n; ++i) {
    if (std::isfinite(out[i])) continue;
    return FormatError("tensor " + Quote(t.name) + ": element " + std::to_string(begin + i) + " is " +
                       FloatText(out[i]) + ", expected a finite number");
  }
  return OkStatus();
}

// Lets go of a float tensor's pages behind a reader that goes through it from the beginning, so that a pass holds some
// megabytes of it.
class SpentPages {
 public:
  // No `source`: nothing is to be let go of.
  SpentPages(const Safetensors* source, const SafetensorsTensor& t) : source_(source), t_(t) {}
  // Everything before this element has been read; a smaller number than before begins another pass.
  void Before(uint64_t element) {
    const uint64_t byte = element * SafetensorsTypeBytes(t_.type);
    if (byte < released_) released_ = 0;
    if (source_ == nullptr || byte - released_ < kStep) return;
    SafetensorsTensor part;
    part.data = t_.data + released_;
    part.bytes = byte - released_;
    part.shard = t_.shard;
    part.file_offset = t_.file_offset + released_;
    source_->Release(part);
    released_ = byte;
  }

 private:
  static constexpr uint64_t kStep = uint64_t{8} << 20;
  const Safetensors* source_;
  const SafetensorsTensor& t_;
  uint64_t released_ = 0;
};

// A projection's weights as s * {-1, 0, 1}, row-major (out, in).
class TernarySource {
 public:
  // Finds scale and form; for floats this reads the whole tensor, letting go of `source`'s pages. `tick`, called after
  // each piece with its number of elements, may stop it.
  template <class Tick>
  static Result<TernarySource> Open(const PlannedTensor& t, const Safetensors* source, const Tick& tick) {
    TernarySource s(t, source);
    s.in_ = t.ne[0];
    s.quarter_ = (t.ne[1] + 3) / 4;
    if (t.op == ConvertOp::kUnpack) {
      s.scale_ = t.scale;
      s.form_ = "unpacked";
      return s;
    }
    TernaryStats stats;
    for (uint64_t begin = 0; begin < t.elements(); begin += kConvertChunk) {
      const std::span<float> w = std::span<float>(s.buffer_).first(s.Count(begin));
      WF_TRY(ReadFloats(*t.source, begin, w));
      stats.Add(w);
      s.spent_.Before(begin);
      WF_TRY(tick(w.size()));
    }
    const float magnitude = stats.Magnitude();
    if (t.op == ConvertOp::kTernary &&
        (!stats.AtMostOneMagnitude() || (t.scale != 0 && magnitude != 0 && magnitude != 1))) {
      return FormatError("tensor " + Quote(t.source->name) + ": expected ternary values " +
                         (t.scale != 0 ? "{-1, 0, 1}, because it has a weight_scale" : "{-s, 0, s}") +
                         ", found other values");
    }
    s.threshold_ = magnitude != 0 ? magnitude : stats.Absmean();
    s.scale_ = t.scale != 0 ? t.scale : s.threshold_;
    s.form_ = magnitude != 0 ? "already ternary" : "absmean";
    return s;
  }

  float scale() const noexcept { return scale_; }
  const char* form() const noexcept { return form_; }
  // Elements of the piece that begins at `begin`.
  size_t Count(uint64_t begin) const noexcept {
    return static_cast<size_t>(std::min<uint64_t>(kConvertChunk, t_.elements() - begin));
  }

  // The ternary values [begin, begin + Count(begin)).
  Status Read(uint64_t begin, int8_t* out) {
    const size_t n = Count(begin);
    if (t_.op == ConvertOp::kUnpack) return Unpack(begin, n, out);
    WF_TRY(ReadFloats(*t_.source, begin, std::span<float>(buffer_).first(n)));
    spent_.Before(begin);
    for (size_t i = 0; i < n; ++i) out[i] = Ternarise(buffer_[i], threshold_);
    return OkStatus();
  }

 private:
  TernarySource(const PlannedTensor& t, const Safetensors* source)
      : t_(t), spent_(source, *t.source), buffer_(kConvertChunk) {}

  // Packed (quarter x in) bytes: row i * quarter + k lies in the bits 2i of packed row k (formats.md 3.8).
  Status Unpack(uint64_t begin, size_t n, int8_t* out) {
    for (size_t i = 0; i < n;) {
      const uint64_t row = (begin + i) / in_, col = (begin + i) % in_;
      const size_t run = static_cast<size_t>(std::min<uint64_t>(n - i, in_ - col));
      const uint8_t* packed = t_.source->data + row % quarter_ * in_ + col;
      const uint32_t shift = static_cast<uint32_t>(2 * (row / quarter_));
      for (size_t j = 0; j < run; ++j) {
        const uint32_t code = (uint32_t{packed[j]} >> shift) & 3u;
        if (code == 3) {
          return FormatError("tensor " + Quote(t_.source->name) + ": row " + std::to_string(row) + ", column " +
                             std::to_string(col + j) + " has code 3, expected 0, 1 or 2");
        }
        out[i + j] = static_cast<int8_t>(static_cast<int>(code) - 1);
      }
      i += run;
    }
    return OkStatus();
  }

  const PlannedTensor& t_;
  SpentPages spent_;
  uint64_t in_ = 0, quarter_ = 0;
  float scale_ = 0, threshold_ = 1;
  const char* form_ = "";
  std::vector<float> buffer_;
};

// A float in 16 or 32 bits and back.
inline uint32_t EncodeFloat(float v, TensorType type) noexcept {
  if (type == TensorType::kF32) return std::bit_cast<uint32_t>(v);
  return type == TensorType::kF16 ? F16FromF32(v) : Bf16FromF32(v);
}
inline float DecodeFloat(uint32_t bits, TensorType type) noexcept {
  if (type == TensorType::kF32) return std::bit_cast<float>(bits);
  const uint16_t h = static_cast<uint16_t>(bits);
  return type == TensorType::kF16 ? F32FromF16(h) : F32FromBf16(h);
}

// A scale as the type holds it: exactly, or rounded away from zero. Then the missing factor is below 1, where f32 is
// fine enough for the product to be the scale to the last bit.
inline float StoredScale(float scale, TensorType type) noexcept {
  if (type == TensorType::kI2_S) return scale;
  const uint32_t bits = EncodeFloat(scale, type);
  const float stored = DecodeFloat(bits, type);
  return stored < scale ? DecodeFloat(bits + 1, type) : stored;
}

// The factor f for which stored * f is the scale, in f32 to the last bit where there is one.
inline float ScaleRest(float scale, float stored) noexcept {
  const float f = scale / stored;
  for (const float c : {f, std::nextafter(f, 0.0f), std::nextafter(f, 2 * f)}) {
    if (stored * c == scale) return c;
  }
  return f;
}

// Index in the source of element i of the output.
inline uint64_t SourceIndex(const PlannedTensor& t, uint64_t i) noexcept {
  if (t.op != ConvertOp::kTranspose) return i;
  const uint64_t in = t.ne[0], rank = t.ne[1];  // output (rank, in), source (in, rank)
  return i % in * rank + i / in;
}

}  // namespace wf::detail
#endif  // WF_CONVERT_SOURCE_IMPL_H_
