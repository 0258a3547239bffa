// SPDX-License-Identifier: Apache-2.0
// A Hugging Face checkpoint becomes a GGUF: first a plan, with every check that needs no weights, then one tensor
// after the other, then the written file is read back and compared, and only then does it get its name. Ternary
// projections become s * {-1, 0, 1}; nothing else is quantised. Not for requantising a GGUF.
#ifndef WF_CONVERT_CONVERT_H_
#define WF_CONVERT_CONVERT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wf/base/inline.h"
#include "wf/base/status.h"
#include "wf/convert/hf_config.h"
#include "wf/convert/names.h"
#include "wf/formats/safetensors.h"
#include "wf/quant/types.h"
#include "wf/tokenizer/vocab.h"

namespace wf {

// How the ternary projections are stored. The embedding is F16 beside I2_S, else of the same type; norms and biases
// are F32; low-rank factors have the embedding's type. Where F16 or BF16 cannot hold a tensor's scale, a ".scale" tensor
// beside it holds the factor that is missing, so that all outtypes of a checkpoint run with the same scales.
enum class OutType : uint8_t { kF32, kF16, kBF16, kI2_S };
inline constexpr const char* kOutTypeNames[] = {"f32", "f16", "bf16", "i2_s"};
// kInvalidArgument listing the known names.
Result<OutType> ParseOutType(std::string_view name);

// What happens to a tensor's values on the way.
enum class ConvertOp : uint8_t {
  kFloat,      // converted to another float type, if need be
  kTranspose,  // likewise, rows and columns swapped
  kTernarise,  // by absmean, or taken as they are if they are ternary already
  kTernary,    // floats that must be ternary already
  kUnpack,     // packed 2-bit codes with a scale
  kScaleRest,  // made: 1 number, what the scale of the tensor before it lost to its 16-bit type
};

struct PlannedTensor {
  std::string name;          // in the GGUF
  std::vector<uint64_t> ne;  // there, innermost first
  TensorType type = TensorType::kF32;
  ConvertOp op = ConvertOp::kFloat;
  const SafetensorsTensor* source = nullptr;
  float scale = 0;     // kUnpack, and kTernary with a weight_scale; otherwise found while converting
  uint64_t bytes = 0;  // in the GGUF
  uint64_t elements() const noexcept {
    uint64_t n = 1;
    for (const uint64_t d : ne) n *= d;
    return n;
  }
};

struct ConvertPlan {
  std::string input;
  OutType outtype = OutType::kI2_S;
  HfConfig config;
  Vocab vocab;
  std::shared_ptr<const Safetensors> source;  // owns what PlannedTensor::source points to
  std::vector<PlannedTensor> tensors;         // in the order of the file
  float sub_norm_eps = -1;                    // of norms on projections' inputs; below 0: rms_norm_eps
  std::string name;                           // general.name
  uint64_t file_bytes = 0;                    // of the GGUF
  std::vector<std::string> notices;           // odd, not fatal
};

struct ConvertedTensor {
  std::string name, source,
      operation;            // operation: "absmean", "already ternary", "unpacked", "converted", "copied", ...
  std::string source_type;  // "BF16"
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> ne;
  uint64_t bytes = 0;
  bool ternary = false;
  float scale = 0;       // ternary: as stored
  double zeros = 0;      // ternary: share of zeros, 0 to 1
  uint64_t rounded = 0;  // values of a float tensor that the type could not hold exactly
};

struct ConvertReport {
  std::string output;
  uint64_t file_bytes = 0;
  uint64_t parameters = 0;  // elements of all tensors
  uint64_t ternary_parameters = 0;
  double zeros = 0;  // share of zeros among the ternary ones
  uint64_t rounded = 0;
  double seconds = 0;  // verification included
  double verify_seconds = 0;
  std::vector<ConvertedTensor> tensors;
  std::vector<std::string> notices;
};

struct ConvertProgress {
  const char* phase;        // "converting" or "verifying"
  std::string_view tensor;  // being worked on
  uint64_t done, total;     // elements of the phase
};

// Watches a conversion from the thread that runs it.
class ConvertObserver {
 public:
  virtual ~ConvertObserver() = default;
  virtual void Progress(const ConvertProgress&) {}     // a few times a second and at the end of a phase
  virtual bool Cancelled() noexcept { return false; }  // asked every few milliseconds; true: stop with kCancelled
};

// Reads config, tokenizer and the tensors' table of folder `input`, and the scales; no weights. Everything that can be
// known to be wrong by then is an error that names file and tensor, expected and found: missing tensors, shapes, types,
// element counts that the outtype cannot hold, tensors that would change the result if they were left out.
Result<ConvertPlan> PlanConversion(const std::string& input, OutType outtype, const std::string& diffusion_style = {});

// Carries out a plan. `output` appears whole and verified or not at all; an older file of that name is replaced. Memory
// is about that of the largest source tensor's pages. kIo when the disk is full (checked before, too), kFormat for
// NaN, infinity and invalid codes with tensor and index, kInternal if the file read back is not what was meant.
Result<ConvertReport> ExecuteConversion(const ConvertPlan& plan, const std::string& output,
                                        ConvertObserver* observer = nullptr);

const char* ConvertOpName(ConvertOp op) noexcept;

}  // namespace wf
#if !WF_MODEL_COMPILED
#include "wf/convert/convert-impl.h"
#endif
#endif  // WF_CONVERT_CONVERT_H_
