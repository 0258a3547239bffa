// SPDX-License-Identifier: Apache-2.0
// From a checkpoint's tensors to the list of output tensors: which source, which operation, which shape and type.
// Every check that needs no weights is here. Part of convert.h's bodies.
#ifndef WF_CONVERT_PLAN_IMPL_H_
#define WF_CONVERT_PLAN_IMPL_H_

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "wf/base/quote.h"
#include "wf/convert/convert.h"
#include "wf/convert/metadata-impl.h"
#include "wf/convert/source-impl.h"
#include "wf/tokenizer/vocab_hf.h"

namespace wf {
namespace detail {

struct ProjectionSources {
  const SafetensorsTensor *weight = nullptr, *scale = nullptr, *quantized = nullptr, *bias = nullptr, *norm = nullptr,
                          *lrc_u = nullptr, *lrc_v = nullptr;
  bool lrc_v_rows = false;  // lrc_v is (rank, in) already
  NormForm norm_form = NormForm::kModel;
  std::string norm_name;  // in the GGUF
};

struct LayerSources {
  const SafetensorsTensor *attn_norm = nullptr, *ffn_norm = nullptr;
  ProjectionSources projections[kProjections];
};

class Planner {
 public:
  explicit Planner(ConvertPlan* plan) : p_(*plan), c_(plan->config), layers_(plan->config.layers) {}

  Status Run() {
    for (const SafetensorsTensor& t : p_.source->tensors()) WF_TRY(Sort(t));
    WF_TRY(Need(embedding_, "model.embed_tokens.weight"));
    WF_TRY(AddFloat("token_embd.weight", *embedding_, {c_.vocab, c_.embedding}, FloatOutType()));
    for (uint64_t i = 0; i < c_.layers; ++i) WF_TRY(PlanLayer(i));
    WF_TRY(Need(output_norm_, "model.norm.weight"));
    WF_TRY(AddFloat("output_norm.weight", *output_norm_, {c_.embedding}, TensorType::kF32));
    WF_TRY(CheckHead());
    return CheckNorms();
  }

 private:
  TensorType FloatOutType() const {
    return p_.outtype == OutType::kF32 ? TensorType::kF32
                                       : (p_.outtype == OutType::kBF16 ? TensorType::kBF16 : TensorType::kF16);
  }
  std::string Where(const SafetensorsTensor& t) const {
    return p_.source->shards()[t.shard] + ": tensor " + Quote(t.name);
  }
  std::string HfLayer(uint64_t layer) const { return "model.layers." + std::to_string(layer) + "."; }

  // Gives a tensor its place; two tensors for one place are an error.
  Status Take(const SafetensorsTensor** place, const SafetensorsTensor& t) const {
    if (*place != nullptr) {
      return FormatError(Where(t) + " and " + Quote((*place)->name) + " stand for the same thing");
    }
    *place = &t;
    return OkStatus();
  }

  Status Sort(const SafetensorsTensor& t) {
    const HfName n = ParseHfName(t.name);
    if (n.layer >= 0 && static_cast<uint64_t>(n.layer) >= c_.layers) {
      return FormatError(Where(t) + " belongs to layer " + std::to_string(n.layer) + ", but num_hidden_layers is " +
                         std::to_string(c_.layers));
    }
    LayerSources* layer = n.layer >= 0 ? &layers_[static_cast<size_t>(n.layer)] : nullptr;
    ProjectionSources* proj =
        n.role >= HfRole::kWeight ? &layer->projections[static_cast<size_t>(n.projection)] : nullptr;
    switch (n.role) {
      case HfRole::kUnknown:
        return Unknown(t, n);
      case HfRole::kIgnored:
        p_.notices.push_back("tensor " + Quote(t.name) + " is not used");
        return OkStatus();
      case HfRole::kEmbedding:
        return Take(&embedding_, t);
      case HfRole::kOutputNorm:
        return Take(&output_norm_, t);
      case HfRole::kHead:
        return Take(&head_, t);
      case HfRole::kAttnNorm:
        return Take(&layer->attn_norm, t);
      case HfRole::kFfnNorm:
        return Take(&layer->ffn_norm, t);
      case HfRole::kWeight:
        return Take(&proj->weight, t);
      case HfRole::kWeightScale:
        return Take(&proj->scale, t);
      case HfRole::kWeightQuantized:
        return Take(&proj->quantized, t);
      case HfRole::kBias:
        return Take(&proj->bias, t);
      case HfRole::kLrcU:
        return Take(&proj->lrc_u, t);
      case HfRole::kLrcV:
        return Take(&proj->lrc_v, t);
      case HfRole::kLrcVRows:
        proj->lrc_v_rows = true;
        return Take(&proj->lrc_v, t);
      case HfRole::kInputNorm:
        if (proj->norm != nullptr) {
          return Unsupported(Where(t) + " and " + Quote(proj->norm->name) + " are two norms for one projection");
        }
        proj->norm_form = n.form;
        proj->norm_name = n.gguf;
        return Take(&proj->norm, t);
    }
    return OkStatus();
  }

  // What nobody knows may be harmless, but not in a layer or at the head.
  Status Unknown(const SafetensorsTensor& t, const HfName& n) {
    if (n.layer >= 0 || t.name.find("layers.") != std::string::npos || t.name.find("lm_head") != std::string::npos) {
      return Unsupported(Where(t) + " is not known, and leaving it out would change the result");
    }
    p_.notices.push_back("tensor " + Quote(t.name) + " is not known and not used");
    return OkStatus();
  }

  Status Need(const SafetensorsTensor* t, const std::string& name) const {
    return t != nullptr ? OkStatus() : NotFound(p_.input + ": tensor '" + name + "' is missing");
  }

  Status CheckShape(const SafetensorsTensor& t, const std::vector<uint64_t>& shape, const std::string& why = {}) const {
    if (t.shape == shape) return OkStatus();
    return FormatError(Where(t) + ": expected shape " + ShapeText(shape) + why + ", found " + ShapeText(t.shape));
  }
  Status CheckFloat(const SafetensorsTensor& t, const char* expected = "F32, F16 or BF16") const {
    if (IsFloat(t.type)) return OkStatus();
    return Unsupported(Where(t) + ": expected dtype " + expected + ", found " + SafetensorsTypeName(t.type));
  }

  Status Add(std::string name, const SafetensorsTensor& t, std::vector<uint64_t> ne, TensorType type, ConvertOp op) {
    PlannedTensor out;
    out.name = std::move(name);
    out.ne = std::move(ne);
    out.type = type;
    out.op = op;
    out.source = &t;
    const TensorTypeInfo* info = FindTensorType(static_cast<uint32_t>(type));
    const uint64_t elements = out.elements();
    if (!TensorBytes(*info, out.ne[0], elements / out.ne[0], &out.bytes)) {
      return Unsupported(Where(t) + ": I2_S cannot hold it: " + ShapeText(t.shape) + " has " +
                         std::to_string(elements) + " weights, not a multiple of 128; use --outtype f16, bf16 or f32");
    }
    p_.tensors.push_back(std::move(out));
    return OkStatus();
  }
  // `shape` as PyTorch has it.
  Status AddFloat(std::string name, const SafetensorsTensor& t, std::vector<uint64_t> shape, TensorType type) {
    WF_TRY(CheckFloat(t));
    WF_TRY(CheckShape(t, shape));
    std::reverse(shape.begin(), shape.end());
    return Add(std::move(name), t, std::move(shape), type, ConvertOp::kFloat);
  }

  Status PlanLayer(uint64_t i) {
    const LayerSources& l = layers_[static_cast<size_t>(i)];
    const uint64_t e = c_.embedding, q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim, f = c_.ffn;
    const struct { uint64_t out, in; } sizes[kProjections] = {{q, e}, {kv, e}, {kv, e}, {e, q}, {f, e}, {f, e}, {e, f}};
    const std::string hf = HfLayer(i), block = "blk." + std::to_string(i) + ".";
    for (size_t j = 0; j < kProjections; ++j) {
      const Projection projection = static_cast<Projection>(j);
      if (projection == Projection::kQ) {
        WF_TRY(Need(l.attn_norm, hf + "input_layernorm.weight"));
        WF_TRY(AddFloat(block + "attn_norm.weight", *l.attn_norm, {e}, TensorType::kF32));
      } else if (projection == Projection::kGate) {
        WF_TRY(Need(l.ffn_norm, hf + "post_attention_layernorm.weight"));
        WF_TRY(AddFloat(block + "ffn_norm.weight", *l.ffn_norm, {e}, TensorType::kF32));
      }
      WF_TRY(PlanProjection(hf + HfProjection(projection), block + GgufProjection(projection), projection,
                            l.projections[j], sizes[j].out, sizes[j].in));
    }
    return OkStatus();
  }

  Status PlanProjection(const std::string& hf, const std::string& gguf, Projection which, const ProjectionSources& s,
                        uint64_t out, uint64_t in) {
    if (s.norm != nullptr) {
      WF_TRY(AddFloat(s.norm_name, *s.norm, {in}, TensorType::kF32));
      if (const Status size = NoteNormEps(s); !size.ok()) return size;
    } else if (which == Projection::kO || which == Projection::kDown) {
      return Need(nullptr, hf.substr(0, hf.rfind('.')) +
                               (which == Projection::kO ? ".attn_sub_norm.weight" : ".ffn_sub_norm.weight"));
    } else if (c_.quantization.use_rms_norm) {
      return Need(nullptr, hf + ".rms_norm.weight");
    }
    WF_TRY(PlanWeight(hf, gguf + ".weight", s, out, in));
    if (s.bias != nullptr) WF_TRY(AddFloat(gguf + ".bias", *s.bias, {out}, TensorType::kF32));
    return PlanLowRank(gguf, s, out, in);
  }

  Status PlanWeight(const std::string& hf, const std::string& gguf, const ProjectionSources& s, uint64_t out,
                    uint64_t in) {
    const TensorType types[] = {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kI2_S};
    const TensorType type = types[static_cast<size_t>(p_.outtype)];
    const SafetensorsTensor* w = s.quantized != nullptr ? s.quantized : s.weight;
    WF_TRY(Need(w, hf + ".weight"));
    if (w->type == SafetensorsType::kU8) {
      WF_TRY(CheckShape(*w, {(out + 3) / 4, in}, " (four rows of " + ShapeText({out, in}) + " in a byte)"));
      WF_TRY(Need(s.scale, hf + ".weight_scale"));
      WF_TRY(Add(gguf, *w, {in, out}, type, ConvertOp::kUnpack));
    } else {
      WF_TRY(CheckFloat(*w, "F32, F16, BF16 or (packed) U8"));
      WF_TRY(CheckShape(*w, {out, in}));
      const bool must_be_ternary = s.quantized != nullptr || s.scale != nullptr;
      WF_TRY(Add(gguf, *w, {in, out}, type, must_be_ternary ? ConvertOp::kTernary : ConvertOp::kTernarise));
    }
    if (s.quantized != nullptr) {
      if (s.scale != nullptr && w->type != SafetensorsType::kU8) {
        p_.notices.push_back("tensor " + Quote(s.scale->name) + " is not used: weight_quantized is scaled already");
      } else if (s.scale != nullptr) {
        WF_ASSIGN(p_.tensors.back().scale, WeightScale(*s.scale));
      }
      if (s.weight != nullptr && s.weight->bytes != 0) {
        p_.notices.push_back("tensor " + Quote(s.weight->name) + " is not used: weight_quantized is there");
      }
    } else if (s.scale != nullptr) {
      WF_ASSIGN(p_.tensors.back().scale, WeightScale(*s.scale));
    }
    return PlanScaleRest(gguf.substr(0, gguf.rfind('.')) + ".scale", *w, type);
  }

  // Beside a tensor of 16-bit floats, unless its scale is known already to fit.
  Status PlanScaleRest(const std::string& gguf, const SafetensorsTensor& w, TensorType type) {
    if (type != TensorType::kF16 && type != TensorType::kBF16) return OkStatus();
    const float scale = p_.tensors.back().scale;
    if (scale != 0 && DecodeFloat(EncodeFloat(scale, type), type) == scale) return OkStatus();
    return Add(gguf, w, {1}, TensorType::kF32, ConvertOp::kScaleRest);
  }

  // The factor that a packed weight's ternary values are multiplied by.
  Result<float> WeightScale(const SafetensorsTensor& t) const {
    WF_TRY(CheckFloat(t));
    if (t.elements() != 1) return FormatError(Where(t) + ": expected 1 element, found shape " + ShapeText(t.shape));
    const float v = FloatAt(t, 0);
    const float s = c_.quantization.rule == ScaleRule::kMultiply ? v : 1.0f / v;
    if (!std::isfinite(v) || v <= 0 || !std::isfinite(s) || s <= 0) {
      return FormatError(Where(t) + ": expected a finite scale above 0, found " + FloatText(v));
    }
    return s;
  }

  Status PlanLowRank(const std::string& gguf, const ProjectionSources& s, uint64_t out, uint64_t in) {
    if (s.lrc_u == nullptr && s.lrc_v == nullptr) return OkStatus();
    if (s.lrc_u == nullptr || s.lrc_v == nullptr) {
      return NotFound(Where(s.lrc_u != nullptr ? *s.lrc_u : *s.lrc_v) + ": the other low-rank factor is missing");
    }
    const SafetensorsTensor &u = *s.lrc_u, &v = *s.lrc_v;
    const uint64_t rank = u.shape.size() == 2 ? u.shape[1] : 0;
    if (rank == 0 || rank > std::min(out, in)) {
      return FormatError(Where(u) + ": expected shape [" + std::to_string(out) + ", rank] with a rank of 1 to " +
                         std::to_string(std::min(out, in)) + ", found " + ShapeText(u.shape));
    }
    WF_TRY(AddFloat(gguf + ".lrc_u.weight", u, {out, rank}, FloatOutType()));
    if (s.lrc_v_rows) return AddFloat(gguf + ".lrc_v.weight", v, {rank, in}, FloatOutType());
    WF_TRY(CheckFloat(v));
    WF_TRY(CheckShape(v, {in, rank}));
    return Add(gguf + ".lrc_v.weight", v, {in, rank}, FloatOutType(), ConvertOp::kTranspose);
  }

  // The file has one epsilon for all norms on projections' inputs.
  Status NoteNormEps(const ProjectionSources& s) {
    const double eps = s.norm_form == NormForm::kPair      ? 1e-6
                       : s.norm_form == NormForm::kRmsNorm ? c_.quantization.rms_norm_eps
                                                           : c_.rms_eps;
    if (eps_of_ == nullptr) {
      eps_of_ = s.norm;
      eps_ = eps;
    } else if (eps_ != eps) {
      return Unsupported(Where(*s.norm) + " has epsilon " + FloatText(static_cast<float>(eps)) + ", but " +
                         Quote(eps_of_->name) + " has " + FloatText(static_cast<float>(eps_)) +
                         ": norms with different epsilons are not supported");
    }
    own_eps_ = own_eps_ || s.norm_form != NormForm::kModel;
    return OkStatus();
  }
  Status CheckNorms() {
    if (own_eps_) p_.sub_norm_eps = static_cast<float>(eps_);
    return OkStatus();
  }

  // These architectures take the embedding as head, so another head cannot be kept.
  Status CheckHead() {
    if (head_ == nullptr) {
      if (c_.tied && !*c_.tied) return Need(nullptr, "lm_head.weight").WithContext("tie_word_embeddings is false");
      return OkStatus();
    }
    const bool same = head_->type == embedding_->type && head_->shape == embedding_->shape &&
                      std::equal(head_->data, head_->data + head_->bytes, embedding_->data);
    p_.source->Release(*head_);
    p_.source->Release(*embedding_);
    if (!same && !c_.tied.value_or(false)) {
      return Unsupported(Where(*head_) +
                         " differs from the embedding, and tie_word_embeddings is not true: architecture " +
                         c_.architecture + " has no head of its own");
    }
    p_.notices.push_back(same ? "tensor 'lm_head.weight' is left out: it is the embedding"
                              : "tensor 'lm_head.weight' is left out: tie_word_embeddings is true");
    return OkStatus();
  }

  ConvertPlan& p_;
  const HfConfig& c_;
  std::vector<LayerSources> layers_;
  const SafetensorsTensor *embedding_ = nullptr, *output_norm_ = nullptr, *head_ = nullptr, *eps_of_ = nullptr;
  double eps_ = 0;
  bool own_eps_ = false;
};

// The folder's own name; a cache's commit hash is no name.
inline std::string ModelName(const std::string& dir, const HfConfig& c) {
  std::error_code ec;
  const std::string name = std::filesystem::weakly_canonical(dir, ec).filename().string();
  const bool hash = name.size() == 40 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!ec && !name.empty() && !hash) return name;
  const size_t slash = c.name_or_path.find_last_not_of('/');
  const std::string path = c.name_or_path.substr(0, slash == std::string::npos ? 0 : slash + 1);
  return path.empty() ? "model" : path.substr(path.rfind('/') + 1);
}

inline Result<Safetensors> OpenWeights(const std::string& dir) {
  Result<Safetensors> s = Safetensors::Open(dir);
  if (s.ok() || s.status().code() != ErrorCode::kNotFound) return s;
  std::error_code ec;
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (!std::filesystem::exists(dir + "/" + name, ec)) continue;
    return Unsupported(dir + ": has only PyTorch .bin weights, *.safetensors are needed");
  }
  return s;
}

inline Result<Vocab> LoadVocab(const std::string& dir, const HfConfig& c) {
  Result<Vocab> vocab = VocabFromHf(dir);
  if (!vocab.ok()) return vocab.status().WithContext("tokenizer");
  if (vocab->tokens.size() > c.vocab) {
    return FormatError(dir + "/tokenizer.json: has " + std::to_string(vocab->tokens.size()) +
                       " tokens, but config.json's vocab_size is " + std::to_string(c.vocab));
  }
  if (c.diffusion.mask_token) {
    if (static_cast<size_t>(*c.diffusion.mask_token) >= vocab->tokens.size()) {
      return FormatError(c.path + ": mask_token_id " + std::to_string(*c.diffusion.mask_token) + " is not a token");
    }
    vocab->mask_id = *c.diffusion.mask_token;
  }
  return vocab;
}

}  // namespace detail

WF_MODEL_INLINE Result<ConvertPlan> PlanConversion(const std::string& input, OutType outtype,
                                                   const std::string& diffusion_style) {
  ConvertPlan plan;
  plan.input = input;
  plan.outtype = outtype;
  WF_ASSIGN(plan.config, LoadHfConfig(input, diffusion_style));
  WF_ASSIGN(Safetensors source, detail::OpenWeights(input));
  plan.notices = source.warnings();
  plan.source = std::make_shared<const Safetensors>(std::move(source));
  WF_TRY(detail::Planner(&plan).Run());
  WF_ASSIGN(plan.vocab, detail::LoadVocab(input, plan.config));
  plan.notices.insert(plan.notices.end(), plan.vocab.warnings.begin(), plan.vocab.warnings.end());
  plan.name = detail::ModelName(input, plan.config);
  GgufWriter writer;
  detail::DescribeFile(plan, &writer);
  WF_ASSIGN(plan.file_bytes, writer.FileBytes());
  return plan;
}

}  // namespace wf
#endif  // WF_CONVERT_PLAN_IMPL_H_
