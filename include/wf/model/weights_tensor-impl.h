// SPDX-License-Identifier: Apache-2.0
// From one tensor of a GGUF to a view that kernels can use: shape, type, scale, low-rank factors, and which tensors
// were asked for. Part of weights.h's bodies.
#ifndef WF_MODEL_WEIGHTS_TENSOR_IMPL_H_
#define WF_MODEL_WEIGHTS_TENSOR_IMPL_H_

#include <cmath>
#include <cstring>
#include <set>
#include <string_view>

#include "wf/base/half.h"
#include "wf/base/quote.h"
#include "wf/model/weights.h"
#include "wf/quant/pack.h"
#include "wf/quant/ternary.h"
#include "wf/quant/tl2.h"

namespace wf::detail {

// Floats that are ternary have one magnitude: returns its bits, 0 for all zeros, or false.
template <class Word>
bool OneMagnitude(const Word* w, size_t n, Word* magnitude) noexcept {
  constexpr Word kMask = static_cast<Word>(static_cast<Word>(~Word{0}) >> 1);
  Word m = 0;
  size_t i = 0;
  for (; i < n && m == 0; ++i) m = w[i] & kMask;
  Word other = 0;
  for (; i < n; ++i) {
    const Word v = w[i] & kMask;
    other = static_cast<Word>(other | (v != 0 && v != m ? 1 : 0));
  }
  *magnitude = m;
  return other == 0;
}

class TensorLoader {
 public:
  TensorLoader(const Gguf& g, const Config& c, const WeightOptions& o, Weights* w) : g_(g), c_(c), o_(o), w_(*w) {}

  Status Error(const std::string& what) const { return FormatError(g_.name() + ": " + what); }
  Status Missing(const std::string& name) const { return NotFound(g_.name() + ": tensor '" + name + "' is missing"); }
  Status NotFinite(const GgufTensor& t, float v, const std::string& what = "scale") const {
    return FormatError(g_.name() + ": tensor '" + std::string(t.name) + "': " + what + " is " + std::to_string(v));
  }

  const GgufTensor* Find(const std::string& name) {
    const GgufTensor* t = g_.FindTensor(name);
    if (t != nullptr) used_.insert(t->name);
    return t;
  }

  Result<const float*> VectorOf(const GgufTensor& t, size_t n) {
    if (t.elements() != n || t.ne[0] != n) return Wrong(t, "{" + std::to_string(n) + "}");
    DenseType type{};
    if (!ToDenseType(t.type, &type) || DenseBlock(type) != 1) {
      return Unsupported(g_.name() + ": tensor '" + std::string(t.name) + "' has type " +
                         std::string(TensorTypeName(t.type)) + ", expected F32, F16 or BF16");
    }
    const float* p = reinterpret_cast<const float*>(t.data);
    if (type != DenseType::kF32 || reinterpret_cast<uintptr_t>(t.data) % alignof(float) != 0) {
      auto copy = std::make_unique<float[]>(n);
      DequantRow(type, t.data, 0, n, copy.get());
      p = copy.get();
      w_.owned.push_back(std::move(copy));
    }
    for (size_t i = 0; i < n; ++i) {
      if (!std::isfinite(p[i])) return NotFinite(t, p[i], n == 1 ? "scale" : "element " + std::to_string(i));
    }
    return p;
  }

  // {k, rows} or {k, rows, experts}; rows 0: any. A matrix of one row may have one dimension.
  Status CheckShape(const GgufTensor& t, size_t k, size_t rows, size_t experts = 1) const {
    if (t.ne[0] != k || (rows != 0 && t.ne[1] != rows) || t.ne[2] != experts || t.ne[3] != 1) {
      return Wrong(t, "{" + std::to_string(k) + ", " + (rows == 0 ? "vocabulary" : std::to_string(rows)) +
                          (experts == 1 ? "}" : ", " + std::to_string(experts) + "}"));
    }
    return OkStatus();
  }

  Linear View(const GgufTensor& t, size_t k, size_t rows) const {
    Linear l;
    l.name = std::string(t.name);
    l.type = t.type == TensorType::kI2_S ? o_.i2s_layout : t.type;
    l.data = t.data;
    l.k = k;
    l.rows = rows;
    return l;
  }

  Status SetDense(const GgufTensor& t, Linear* l) const {
    if (!ToDenseType(t.type, &l->dense_type)) {
      return NoKernel(t, "F32, F16, BF16, Q8_0, Q6_K, Q4_K and Q4_0 have one");
    }
    l->ternary = false;
    return OkStatus();
  }

  // The weights of expert `index` of `count` (a plain projection: 0 of 1).
  Status SetWeights(const GgufTensor& t, size_t index, size_t count, Linear* l) {
    if (l->k > kMaxTernaryK) {
      return Unsupported(g_.name() + ": tensor '" + std::string(t.name) + "' has rows of " + std::to_string(l->k) +
                         " weights; sums stay exact up to " + std::to_string(kMaxTernaryK));
    }
    if (t.type == TensorType::kTL2) return Repack(t, count, l);
    if (t.type == TensorType::kTL1) {
      return Unsupported(g_.name() + ": tensor '" + std::string(t.name) +
                         "' is TL1, whose layout depends on build-time tiling that the file does not hold; convert the "
                         "model again to I2_S or TQ2_0");
    }
    const uint64_t elements = uint64_t{l->k} * l->rows;
    if (IsI2s(l->type)) {
      const size_t group = l->type == TensorType::kI2_S ? 128 : (l->type == TensorType::kI2_S_ARM64 ? 64 : l->k * 4);
      if (count > 1 && elements % group != 0) {
        return Unsupported(g_.name() + ": tensor '" + std::string(t.name) + "': the " + std::to_string(elements) +
                           " weights of an expert are not whole groups of I2_S");
      }
      if (l->type == TensorType::kI2_S_X4 && l->rows % 4 != 0) {
        return Error("tensor '" + std::string(t.name) + "': layout x4 needs a multiple of 4 rows, found " +
                     std::to_string(l->rows));
      }
      l->data = t.data + index * elements / 4;
      l->scale = LoadLe<float>(t.data + t.elements() / 4);
      return std::isfinite(l->scale) ? OkStatus() : NotFinite(t, l->scale);
    }
    l->data = t.data + t.bytes / count * index;
    if (IsPackedTernary(t.type)) {  // blocks have their own scales
      if (t.type == TensorType::kIQ2_BN_R4 && l->rows % 4 != 0) {
        return Error("tensor '" + std::string(t.name) + "': expected a multiple of 4 rows, found " +
                     std::to_string(l->rows));
      }
      return OkStatus();
    }
    DenseType type{};
    if (!ToDenseType(t.type, &type) || (c_.bitlinear && DenseBlock(type) != 1)) {
      return NoKernel(t, std::string("I2_S, TQ1_0, TQ2_0, IQ1_BN, IQ2_BN, IQ2_BN_R4, Q2_0, F32, F16 and BF16") +
                             (c_.bitlinear ? "" : ", Q8_0, Q6_K, Q4_K and Q4_0") + " have one");
    }
    if (!c_.bitlinear) return SetDense(t, l);
    return SetTernaryFloats(t, type, static_cast<size_t>(elements), l);
  }

  Status Multiply(const GgufTensor& scale, float v, Linear* l) const {
    if (!std::isfinite(v)) return NotFinite(scale, v);
    if (!l->ternary) {
      return Unsupported(g_.name() + ": '" + std::string(scale.name) + "' on an unquantised projection");
    }
    l->scale *= v;
    return OkStatus();
  }

  // The spellings of semantics.md 3; ne of U is {rank, out}, of V {in, rank}.
  Status LowRank(const std::string& base, Linear* l) {
    const GgufTensor *u = nullptr, *v = nullptr;
    for (const char* s : {".lrc_u.weight", ".lrc_u", ".lrc_U.weight", ".lrc_U"}) {
      if (u == nullptr) u = Find(base + s);
    }
    for (const char* s : {".lrc_v.weight", ".lrc_v", ".lrc_V.weight", ".lrc_V"}) {
      if (v == nullptr) v = Find(base + s);
    }
    if (u == nullptr && v == nullptr) return OkStatus();
    if (u == nullptr || v == nullptr) {
      return NotFound(g_.name() + ": '" + base + "' has only one of the two low-rank factors lrc_u and lrc_v");
    }
    const size_t rank = u->ne[0];
    WF_TRY(CheckShape(*u, rank, l->rows));
    WF_TRY(CheckShape(*v, l->k, rank));
    for (const GgufTensor* t : {u, v}) {
      DenseType type{};
      if (!ToDenseType(t->type, &type) || type == DenseType::kQ6_K || type == DenseType::kQ4_K) {
        return Unsupported(g_.name() + ": '" + std::string(t->name) + "' is " + std::string(TensorTypeName(t->type)) +
                           ", expected F32, F16, BF16, Q8_0 or Q4_0");
      }
      (t == u ? l->lrc_type : l->lrc_v_type) = type;
    }
    if (!l->ternary)
      return Unsupported(g_.name() + ": a low-rank correction on an unquantised projection, '" + base + "'");
    l->rank = rank;
    l->lrc_u = u->data;
    l->lrc_v = v->data;
    return OkStatus();
  }

  // A tensor that nobody asked for may be harmless, but not one of a layer that is used, nor one that looks like a part
  // of the arithmetic around the layers.
  Status CheckLeftovers() {
    for (const GgufTensor& t : g_.tensors()) {
      if (used_.count(t.name) != 0) continue;
      const std::string name(t.name);
      const size_t dot = name.find('.', 4);
      const bool in_layer = name.rfind("blk.", 0) == 0 && dot != std::string::npos &&
                            std::strtoull(name.c_str() + 4, nullptr, 10) < c_.layers;
      bool matters = in_layer && !name.ends_with("rotary_emb.inv_freq") && !name.ends_with("attn_rot_embd.weight");
      for (const char* part : {"norm", "bias", "scale", "lrc", "lora"}) {
        matters = matters || (name.rfind("blk.", 0) != 0 && name.find(part) != std::string::npos);
      }
      if (matters) return Unsupported(g_.name() + ": tensor '" + name + "' changes the result and is not supported");
      w_.notices.push_back("tensor '" + name + "' is not used");
    }
    return OkStatus();
  }

 private:
  Status Wrong(const GgufTensor& t, const std::string& expected) const {
    std::string found;
    for (uint32_t d = 0; d < (t.n_dims == 0 ? 1 : t.n_dims); ++d) found += (d ? ", " : "") + std::to_string(t.ne[d]);
    return FormatError(g_.name() + ": tensor '" + std::string(t.name) + "': expected " + expected + ", found {" +
                       found + "}");
  }
  Status NoKernel(const GgufTensor& t, const std::string& which) const {
    return Unsupported(g_.name() + ": tensor '" + std::string(t.name) + "' has type " +
                       std::string(TensorTypeName(t.type)) + ", for which there is no kernel here; " + which);
  }

  // Floats of a BitLinear projection hold {-s, 0, s}.
  Status SetTernaryFloats(const GgufTensor& t, DenseType type, size_t n, Linear* l) const {
    bool ok = false;
    if (type == DenseType::kF32) {
      uint32_t m = 0;
      ok = OneMagnitude(static_cast<const uint32_t*>(l->data), n, &m);
      std::memcpy(&l->scale, &m, sizeof(m));
    } else {
      uint16_t m = 0;
      ok = OneMagnitude(static_cast<const uint16_t*>(l->data), n, &m);
      l->scale = type == DenseType::kF16 ? F32FromF16(m) : F32FromBf16(m);
    }
    if (!ok) {
      return FormatError(g_.name() + ": tensor '" + std::string(t.name) +
                         "' holds continuous weights where {-s, 0, s} are expected: convert the checkpoint with "
                         "wf-convert, which ternarises by absmean");
    }
    return std::isfinite(l->scale) ? OkStatus() : NotFinite(t, l->scale);
  }

  // TL2's tiles are for table look-ups: decoded once to I2_S.
  Status Repack(const GgufTensor& t, size_t count, Linear* l) {
    const size_t n = l->k * l->rows;
    if (count != 1 || n % kI2sGroup != 0) return NoKernel(t, "TL2 is read for the known shapes only");
    auto values = std::make_unique<int8_t[]>(n);
    if (const Status s = DecodeTl2(t.data, t.bytes, l->rows, l->k, values.get(), &l->scale); !s.ok()) {
      return s.WithContext(g_.name() + ": tensor '" + std::string(t.name) + "'");
    }
    if (!std::isfinite(l->scale)) return NotFinite(t, l->scale);
    auto packed = std::make_unique<uint8_t[]>(n / 4);
    PackTernary(TensorType::kI2_S, values.get(), 1, n, 1, packed.get());
    l->type = TensorType::kI2_S;
    l->data = packed.get();
    w_.repacked.push_back(std::move(packed));
    return OkStatus();
  }

  const Gguf& g_;
  const Config& c_;
  const WeightOptions& o_;
  Weights& w_;
  std::set<std::string_view> used_;
};

}  // namespace wf::detail
#endif  // WF_MODEL_WEIGHTS_TENSOR_IMPL_H_
