// SPDX-License-Identifier: Apache-2.0
// The ternary tensors of a GGUF in another type, losslessly: every ternary value stays and so does every scale, unless
// a program that must load the file has no place for it. Weights that are not ternary are refused, as no choice of
// scale made here could replace training or absmean: those are convert.h's matter.
#ifndef WF_CONVERT_REQUANTISE_H_
#define WF_CONVERT_REQUANTISE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/convert/convert.h"
#include "wf/formats/gguf.h"
#include "wf/quant/types.h"

namespace wf {

// What the ternary tensors may become.
inline constexpr TensorType kRequantiseTypes[] = {
    TensorType::kI2_S,   TensorType::kTQ1_0,     TensorType::kTQ2_0, TensorType::kQ2_0, TensorType::kIQ1_BN,
    TensorType::kIQ2_BN, TensorType::kIQ2_BN_R4, TensorType::kF32,   TensorType::kF16,  TensorType::kBF16};

// The type's name as programs' flags spell it: "tq2_0".
inline std::string LowerTypeName(TensorType t) {
  std::string s(TensorTypeName(t));
  for (char& c : s) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return s;
}

struct RequantiseOptions {
  TensorType type = TensorType::kI2_S;                  // one of kRequantiseTypes
  std::optional<TensorType> embedding_type, head_type;  // F32, F16, BF16, Q8_0, Q6_K, Q4_K or Q4_0; absent: copied
  TensorType i2s_layout = TensorType::kI2_S;            // of the input's I2_S tensors: kI2_S, kI2_S_ARM64 or kI2_S_X4
  Peer peer = Peer::kNone;                              // no ".scale" tensors; what it cannot load is refused
  int threads = 0;                                      // 0: one a core. The bytes are the same for any number.
};

enum class RequantiseOp : uint8_t {
  kCopy,     // byte for byte
  kTernary,  // unpacked and packed again
  kDense,    // embedding or head, in another dense type
  kScale,    // made: `values`
};

struct RequantisedTensor {
  std::string name;
  TensorType from = TensorType::kF32, type = TensorType::kF32;
  std::vector<uint64_t> ne;
  uint64_t bytes = 0;
  RequantiseOp op = RequantiseOp::kCopy;
  const GgufTensor* source = nullptr;  // none for kScale
  std::vector<float> magnitudes;       // kTernary from floats: of each expert (one, if there are none)
  // kTernary: the scale in the tensor for each expert; empty: its rows or blocks have different ones, which are taken
  // over, times `factors` (for each expert).
  std::vector<float> stored, factors;
  double scale_error = 0;     // kTernary: relative, by which the scale that will run misses the input's at most
  std::vector<float> values;  // kScale
};

struct RequantisePlan {
  std::string input;
  RequantiseOptions options;
  std::shared_ptr<const Gguf> source;
  std::string architecture;
  bool add_bitlinear = false;              // {arch}.bitlinear is added, without which floats would run unquantised
  std::vector<RequantisedTensor> tensors;  // in the order of the file
  uint64_t file_bytes = 0;
  std::vector<std::string> notices;
};

struct RequantiseReport {
  std::string output;
  uint64_t file_bytes = 0;
  uint64_t ternary_parameters = 0;
  double seconds = 0;  // verification included, planning not
  double verify_seconds = 0;
};

// Opens `input` and reads its ternary tensors once (phase "analysing"). kUnsupported, with tensor and reason, for
// weights that are not ternary, rows that do not fit the type (with the types that fit), scales that it has no place
// for, values that it cannot hold, and what the peer does not load; kFormat for damaged files; kCancelled.
Result<RequantisePlan> PlanRequantisation(const std::string& input, const RequantiseOptions& options,
                                          ConvertObserver* observer = nullptr);

// Carries it out (phases "writing" and "verifying"). `output` appears whole and verified or not at all; an older file
// of that name is replaced. kInvalidArgument if it is the input.
Result<RequantiseReport> ExecuteRequantisation(const RequantisePlan& plan, const std::string& output,
                                               ConvertObserver* observer = nullptr);

const char* RequantiseOpName(RequantiseOp op) noexcept;

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/requantise-impl.h"
#endif
#endif  // WF_CONVERT_REQUANTISE_H_
