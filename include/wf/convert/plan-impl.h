// SPDX-License-Identifier: Apache-2.0
// From a checkpoint's tensors to the list of output tensors: which source, which operation, which shape and type.
// Every check that needs no weights is here and in the headers plan_*-impl.h. Part of convert.h's bodies.
#ifndef WF_CONVERT_PLAN_IMPL_H_
#define WF_CONVERT_PLAN_IMPL_H_

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <string>
#include <vector>

#include "wf/convert/convert.h"
#include "wf/convert/metadata-impl.h"
#include "wf/convert/plan_builder-impl.h"
#include "wf/convert/plan_lrc-impl.h"
#include "wf/convert/plan_moe-impl.h"
#include "wf/convert/plan_peer-impl.h"
#include "wf/convert/plan_sources-impl.h"
#include "wf/convert/plan_vocab-impl.h"

namespace wf {
namespace detail {

// lm_head beside the embedding.
enum class HeadKind : uint8_t { kNone, kSame, kOwn };

inline HeadKind FindHead(const ConvertPlan& plan, const SourceTable& s) {
  if (s.head == nullptr) return HeadKind::kNone;
  if (s.embedding == nullptr) return HeadKind::kOwn;
  const bool same = s.head->type == s.embedding->type && s.head->shape == s.embedding->shape &&
                    std::equal(s.head->data, s.head->data + s.head->bytes, s.embedding->data);
  plan.source->Release(*s.head);
  plan.source->Release(*s.embedding);
  return same ? HeadKind::kSame : HeadKind::kOwn;
}

// Both sub-norms of Microsoft's graph, in every layer.
inline bool HasSubNorms(const SourceTable& s) {
  return s.All([](const LayerSources& l) {
    return l.at(Projection::kO).norm != nullptr && l.at(Projection::kDown).norm != nullptr;
  });
}

// The GGUF's architecture: relu2 has one graph, bitnet-b1.58; else the class's, where `bitnet` asks for both sub-norms
// and has no head of its own.
inline Status ChooseArchitecture(const SourceTable& s, HeadKind head, ConvertPlan* plan) {
  HfConfig& c = plan->config;
  const bool own_head = head == HeadKind::kOwn && !c.tied.value_or(false);
  if (c.relu2) {
    const std::string where = c.path + ": hidden_act: 'relu2' means architecture bitnet-b1.58, which has no ";
    if (c.experts.count != 0) return Unsupported(where + "experts");
    const auto head_norm = [](const LayerSources& l) { return l.q_norm != nullptr || l.k_norm != nullptr; };
    if (c.architecture == "qwen3" || s.Any(head_norm)) return Unsupported(where + "norms on q and k");
    c.architecture = "bitnet-b1.58";
    return OkStatus();
  }
  const bool bitnet = HasSubNorms(s) && !own_head;
  if (c.architecture == "bitnet" && !bitnet) c.architecture = "llama";
  // 1bitLLM's checkpoints say model_type llama; peers have sub-norms in their graph of bitnet only.
  const bool peer = plan->options.peer != Peer::kNone;
  if (peer && c.bitnet_class && c.architecture == "llama" && c.experts.count == 0 && bitnet &&
      c.rope != HfRope::kLlama3) {
    c.architecture = "bitnet";
  }
  return OkStatus();
}

// The divisors of RoPE's angles that rope_type llama3 stands for (formats.md 3.5).
inline std::vector<float> Llama3Factors(const HfConfig& c) {
  std::vector<float> factors;
  const double low = c.rope_original_context / c.rope_low_freq, high = c.rope_original_context / c.rope_high_freq;
  for (uint64_t i = 0; i < c.head_dim / 2; ++i) {
    const double power = 2 * static_cast<double>(i) / static_cast<double>(c.head_dim);
    const double length = 2 * std::numbers::pi * std::pow(c.rope_theta, power);
    double f = 1;
    if (length > low) {
      f = c.rope_factor;
    } else if (length >= high) {
      const double part = (c.rope_original_context / length - c.rope_low_freq) / (c.rope_high_freq - c.rope_low_freq);
      f = 1 / ((1 - part) / c.rope_factor + part);
    }
    factors.push_back(static_cast<float>(f));
  }
  return factors;
}

class Planner {
 public:
  Planner(PlanBuilder* b, const SourceTable& sources, HeadKind head)
      : b_(*b), c_(b->config()), s_(sources), head_(head) {}

  Status Run() {
    WF_TRY(b_.Need(s_.embedding, "model.embed_tokens.weight"));
    WF_TRY(b_.AddFloat("token_embd.weight", *s_.embedding, {c_.vocab, c_.embedding}, b_.types().embedding));
    if (c_.rope == HfRope::kLlama3 && !b_.sgl()) b_.AddConstant("rope_freqs.weight", Llama3Factors(c_));
    for (uint64_t i = 0; i < c_.layers; ++i) WF_TRY(PlanLayer(i));
    WF_TRY(b_.Need(s_.output_norm, "model.norm.weight"));
    WF_TRY(b_.AddFloat("output_norm.weight", *s_.output_norm, {c_.embedding}));
    WF_TRY(PlanHead());
    if (own_eps_) b_.plan().sub_norm_eps = static_cast<float>(eps_);
    return OkStatus();
  }

 private:
  Status PlanLayer(uint64_t i) {
    const LayerSources& l = s_.layers()[static_cast<size_t>(i)];
    const std::string hf = "model.layers." + std::to_string(i) + ".", block = "blk." + std::to_string(i) + ".";
    WF_TRY(b_.Need(l.attn_norm, hf + "input_layernorm.weight"));
    WF_TRY(b_.AddFloat(block + "attn_norm.weight", *l.attn_norm, {c_.embedding}));
    for (const Projection p : {Projection::kQ, Projection::kK, Projection::kV}) WF_TRY(PlanProjection(hf, block, l, p));
    WF_TRY(PlanHeadNorms(hf, block, l));
    WF_TRY(PlanProjection(hf, block, l, Projection::kO));
    WF_TRY(b_.Need(l.ffn_norm, hf + "post_attention_layernorm.weight"));
    WF_TRY(b_.AddFloat(block + "ffn_norm.weight", *l.ffn_norm, {c_.embedding}));
    constexpr Projection kFfn[] = {Projection::kGate, Projection::kUp, Projection::kDown};
    if (c_.experts.count == 0) {
      for (const Projection p : kFfn) WF_TRY(PlanProjection(hf, block, l, p));
      return OkStatus();
    }
    WF_TRY(PlanRouter(&b_, hf, block, l));
    for (const Projection p : kFfn) WF_TRY(PlanExpertStack(&b_, hf, block, l, p));
    if (c_.experts.shared_ffn == 0) return OkStatus();
    WF_TRY(PlanSharedRouter(&b_, hf, block, l));
    for (const Projection p : {Projection::kSharedGate, Projection::kSharedUp, Projection::kSharedDown}) {
      WF_TRY(PlanProjection(hf, block, l, p));
    }
    return OkStatus();
  }

  Status PlanHeadNorms(const std::string& hf, const std::string& block, const LayerSources& l) {
    if (!c_.architecture.starts_with("qwen3")) {
      const CheckpointTensor* t = l.q_norm != nullptr ? l.q_norm : l.k_norm;
      if (t == nullptr) return OkStatus();
      return Unsupported(b_.Where(*t) + ": architecture " + c_.architecture + " has no norms on q and k");
    }
    WF_TRY(b_.Need(l.q_norm, hf + "self_attn.q_norm.weight"));
    WF_TRY(b_.Need(l.k_norm, hf + "self_attn.k_norm.weight"));
    WF_TRY(b_.AddFloat(block + "attn_q_norm.weight", *l.q_norm, {c_.head_dim}));
    return b_.AddFloat(block + "attn_k_norm.weight", *l.k_norm, {c_.head_dim});
  }

  Status PlanProjection(const std::string& layer_hf, const std::string& block, const LayerSources& l, Projection p) {
    const ProjectionSources& s = l.at(p);
    const std::string hf = layer_hf + HfProjection(p), gguf = block + GgufProjection(p);
    const MatrixSize m = ProjectionSize(c_, p);
    const uint64_t permute = b_.PermuteHeads(p);
    WF_TRY(PlanNorm(hf, block, s, p, m.in));
    WF_ASSIGN(const TernaryPart part, PlanTernaryPart(&b_, hf, s, m));
    WF_TRY(b_.Add(gguf + ".weight", {part.part}, {m.in, m.out}, b_.types().ternary, part.op,
                  SglWeightName(part.part.source->name)));
    b_.plan().tensors.back().packed = part.packed;
    b_.plan().tensors.back().permute_heads = permute;
    b_.AddScaleRest(gguf + ".scale");
    WF_TRY(PlanBias(hf, gguf, s, p, m.out, permute));
    return PlanLowRank(&b_, gguf, hf, s, m, permute);
  }

  static std::string SglWeightName(const std::string& source) {
    std::string name = ParseHfName(source).hf;
    constexpr std::string_view kQuantized = "_quantized";
    if (name.ends_with(kQuantized)) name.resize(name.size() - kQuantized.size());
    return name;
  }

  Status PlanNorm(const std::string& hf, const std::string& block, const ProjectionSources& s, Projection p,
                  uint64_t in) {
    const bool attn = p == Projection::kO, sub = attn || p == Projection::kDown, bitnet = IsBitnet(c_.architecture);
    if (s.norm == nullptr) {
      if (sub && bitnet) {
        return b_.Need(nullptr,
                       hf.substr(0, hf.rfind('.')) + (attn ? ".attn_sub_norm.weight" : ".ffn_sub_norm.weight"));
      }
      return c_.quantization.use_rms_norm ? b_.Need(nullptr, hf + ".rms_norm.weight") : OkStatus();
    }
    const std::string name =
        sub && bitnet ? block + (attn ? "attn_sub_norm.weight" : "ffn_sub_norm.weight") : s.norm_name;
    WF_TRY(b_.AddFloat(name, *s.norm, {in}));
    return NoteNormEps(s);
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
      return Unsupported(b_.Where(*s.norm) + " has epsilon " + FloatText(static_cast<float>(eps)) + ", but " +
                         Quote(eps_of_->name) + " has " + FloatText(static_cast<float>(eps_)) +
                         ": norms with different epsilons are not supported");
    }
    own_eps_ = own_eps_ || s.norm_form != NormForm::kModel;
    return OkStatus();
  }

  Status PlanBias(const std::string& hf, const std::string& gguf, const ProjectionSources& s, Projection p,
                  uint64_t out, uint64_t permute) {
    const std::optional<bool> wanted = p <= Projection::kV   ? c_.qkv_bias
                                       : p == Projection::kO ? c_.o_bias
                                                             : c_.mlp_bias;
    if (s.bias == nullptr) return wanted.value_or(false) ? b_.Need(nullptr, hf + ".bias") : OkStatus();
    if (!wanted.value_or(true)) {
      return FormatError(b_.Where(*s.bias) + ": config.json says that there is no such bias (" +
                         (p <= Projection::kO ? "attention_bias or qkv_bias" : "mlp_bias") + " is false)");
    }
    return b_.AddBias(gguf + ".bias", *s.bias, out, permute);
  }

  Status PlanHead() {
    const bool tied = c_.tied.value_or(false), bitnet = IsBitnet(c_.architecture);
    if (head_ == HeadKind::kNone) {
      if (c_.tied && !*c_.tied) return b_.Need(nullptr, "lm_head.weight").WithContext("tie_word_embeddings is false");
      return NoHead();
    }
    // These architectures take the embedding as head, so another one cannot be kept.
    if (head_ == HeadKind::kOwn && bitnet && !tied) {
      return Unsupported(b_.Where(*s_.head) +
                         " differs from the embedding, and tie_word_embeddings is not true: architecture " +
                         c_.architecture + " has no head of its own");
    }
    if (head_ == HeadKind::kOwn && !bitnet) {
      if (tied) b_.Notice("tensor 'lm_head.weight' is kept: tie_word_embeddings is true, but it is not the embedding");
      return b_.AddFloat("output.weight", *s_.head, {c_.vocab, c_.embedding}, b_.types().head);
    }
    const bool other_type = b_.types().head != b_.types().embedding;
    if (head_ == HeadKind::kSame && !bitnet && other_type) {
      return b_.AddFloat("output.weight", *s_.head, {c_.vocab, c_.embedding}, b_.types().head);
    }
    b_.Notice(head_ == HeadKind::kSame ? "tensor 'lm_head.weight' is left out: it is the embedding"
                                       : "tensor 'lm_head.weight' is left out: tie_word_embeddings is true");
    return NoHead();
  }
  // The embedding is the head: it cannot have a type of its own.
  Status NoHead() const {
    if (b_.types().head == b_.types().embedding) return OkStatus();
    return InvalidArgument("--head-type: the embedding is this model's head; use --embedding-type");
  }

  PlanBuilder& b_;
  const HfConfig& c_;
  const SourceTable& s_;
  HeadKind head_;
  const CheckpointTensor* eps_of_ = nullptr;
  double eps_ = 0;
  bool own_eps_ = false;
};

// What is odd about the whole.
inline void NoteOddities(const SourceTable& s, ConvertPlan* plan) {
  const HfConfig& c = plan->config;
  bool masters = false, packed = false, factors = false, lora = false;
  for (const PlannedTensor& t : plan->tensors) {
    masters = masters || t.op == ConvertOp::kTernarise;
    packed = packed || (t.op == ConvertOp::kUnpack && t.packed == PackedForm::kRowBlocks);
  }
  for (const LayerSources& l : s.layers()) {
    for (const ProjectionSources& p : l.projections) {
      if (p.lrc_u == nullptr) continue;
      lora = lora || p.factor == FactorForm::kLora;
      factors = factors || p.factor == FactorForm::kLinear;
    }
  }
  if (!c.quantization.present && masters && !c.bitnet_class) {
    plan->notices.push_back(
        "no quantization_config: projections are taken for BitLinear masters and ternarised by absmean");
  }
  if (!c.quantization.present && packed) {
    plan->notices.push_back("no quantization_config: weight_scale is taken to divide, as transformers' BitLinear does");
  }
  if (factors && c.low_rank.bits == 0) {
    plan->notices.push_back(
        "no lrc_config with bits: lrc_U_linear and lrc_V_linear are taken as they are, not rounded as in training");
  }
  if (c.low_rank.adapter && !lora) {
    plan->notices.push_back(
        "adapter_config.json is there, but the weights have no LoRA factors: the adapter is not used");
  }
}

inline Status PlanTensors(ConvertPlan* plan) {
  SourceTable sources(plan);
  WF_TRY(sources.Sort());
  const HeadKind head = FindHead(*plan, sources);
  WF_TRY(ChooseArchitecture(sources, head, plan));
  PlanTypes types;
  WF_TRY(ChooseTypes(plan->config, &plan->options, &types));
  const bool peer = plan->options.peer != Peer::kNone;
  if (peer) WF_TRY(CheckPeerArchitecture(*plan));
  if (peer) WF_TRY(CheckPeerTypes(*plan));
  if (plan->options.outtype == OutType::kSgl && plan->config.experts.count != 0) {
    return Unsupported("--outtype sgl: sgl-kernel's format has no experts");
  }
  if (plan->config.quantization.use_rms_norm && plan->config.experts.count != 0) {
    return Unsupported(plan->config.path +
                       ": quantization_config.use_rms_norm: norms on experts' inputs are not supported");
  }
  PlanBuilder builder(plan, types);
  WF_TRY(Planner(&builder, sources, head).Run());
  if (peer) WF_TRY(CheckPeerTensors(*plan));
  NoteOddities(sources, plan);
  return OkStatus();
}

// The input's own name; a cache's commit hash is no name.
inline std::string ModelName(const std::string& input, const HfConfig& c) {
  std::error_code ec;
  const std::filesystem::path path = std::filesystem::weakly_canonical(input, ec);
  const std::string name = (std::filesystem::is_directory(path, ec) ? path.filename() : path.stem()).string();
  const bool hash = name.size() == 40 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!name.empty() && !hash) return name;
  const size_t slash = c.name_or_path.find_last_not_of('/');
  const std::string from = c.name_or_path.substr(0, slash == std::string::npos ? 0 : slash + 1);
  return from.empty() ? "model" : from.substr(from.rfind('/') + 1);
}

// Of an sgl-kernel .bin (formats.md 7.3).
inline uint64_t SglBytes(const ConvertPlan& plan) {
  uint64_t n = 8 + 4 + 4 + plan.config.text.size() + 4;
  for (const PlannedTensor& t : plan.tensors) {
    const bool scale = t.type == TensorType::kI2_S;
    n += 4 + t.name.size() + 4 + 4 + 4 * t.ne.size() + 4 + (scale ? 4 : 0) + 8 + t.bytes;
  }
  return n;
}

inline Result<HfDiffusion> DiffusionFlags(const ConvertOptions& o) {
  HfDiffusion d;
  d.style = o.diffusion_style;
  const auto size = [](const char* flag, const std::optional<uint32_t>& v, uint32_t* to) -> Status {
    if (v && (*v == 0 || *v > 4096)) {
      return InvalidArgument(std::string(flag) + ": expected 1 to 4096, found " + std::to_string(*v));
    }
    *to = v.value_or(0);
    return OkStatus();
  };
  WF_TRY(size("--block-size", o.block_size, &d.block_size));
  WF_TRY(size("--sub-block-size", o.sub_block_size, &d.sub_block_size));
  if (o.threshold && !(*o.threshold >= 0 && *o.threshold <= 1)) {
    return InvalidArgument("--threshold: expected 0 to 1, found " + FloatText(*o.threshold));
  }
  d.threshold = o.threshold;
  d.mask_token = o.mask_token;
  return d;
}

// Reads the configuration, and the table of tensors unless there are no weights and none are needed.
inline Status ReadCheckpoint(ConvertPlan* plan) {
  const ConvertOptions& o = plan->options;
  WF_ASSIGN(const HfDiffusion flags, DiffusionFlags(o));
  std::error_code ec;
  const bool file = std::filesystem::is_regular_file(plan->input, ec);
  if (!file) {
    WF_ASSIGN(plan->config, LoadHfConfig(plan->input, flags));
  }
  Result<Checkpoint> source = Checkpoint::Open(plan->input);
  if (!source.ok() && source.status().code() == ErrorCode::kNotFound && !file && o.vocab_only) return OkStatus();
  WF_TRY(source);
  if (file) {
    if (source->config_json().empty()) {
      return InvalidArgument(plan->input +
                             ": expected a checkpoint's folder or an sgl-kernel .bin, found a file of "
                             "tensors without a config.json: give its folder");
    }
    if (o.tokenizer.empty()) {
      return InvalidArgument(plan->input + ": sgl-kernel's format holds no tokenizer: name a folder with --tokenizer");
    }
    WF_ASSIGN(plan->config, ParseHfConfig(source->config_json(), plan->input + ": config", o.tokenizer, flags));
  }
  plan->notices = source->warnings();
  plan->source = std::make_shared<const Checkpoint>(*std::move(source));
  return OkStatus();
}

}  // namespace detail

WF_MODEL_INLINE Result<ConvertPlan> PlanConversion(const std::string& input, const ConvertOptions& options) {
  ConvertPlan plan;
  plan.input = input;
  plan.options = options;
  if (options.vocab_only && options.outtype == OutType::kSgl) {
    return InvalidArgument("--vocab-only: sgl-kernel's format holds no vocabulary");
  }
  WF_TRY(detail::ReadCheckpoint(&plan));
  plan.notices.insert(plan.notices.end(), plan.config.notices.begin(), plan.config.notices.end());
  if (plan.source != nullptr) {
    WF_TRY(detail::PlanTensors(&plan));
    if (options.vocab_only) plan.tensors.clear();
  } else {  // the vocabulary of a folder without weights
    if (plan.config.relu2) plan.config.architecture = "bitnet-b1.58";
    if (plan.options.outtype == OutType::kAuto) plan.options.outtype = detail::AutoOutType(options.peer, plan.config);
  }
  WF_ASSIGN(plan.vocab, detail::LoadVocab(options.tokenizer.empty() ? input : options.tokenizer, plan.config));
  if (options.peer != Peer::kNone) WF_TRY(detail::CheckPeerVocab(plan));
  plan.notices.insert(plan.notices.end(), plan.vocab.warnings.begin(), plan.vocab.warnings.end());
  plan.name = detail::ModelName(input, plan.config);
  if (options.strict && !plan.notices.empty()) return FormatError("--strict: " + plan.notices[0]);
  if (plan.options.outtype == OutType::kSgl) {
    plan.file_bytes = detail::SglBytes(plan);
    return plan;
  }
  GgufWriter writer;
  detail::DescribeFile(plan, &writer);
  WF_ASSIGN(plan.file_bytes, writer.FileBytes());
  return plan;
}

}  // namespace wf
#endif  // WF_CONVERT_PLAN_IMPL_H_
