// SPDX-License-Identifier: Apache-2.0
// The bodies of model, cache, decode and engine, compiled once for wf::model.
#include "wf/cache/kv_pool-impl.h"
#include "wf/decode/sampler-impl.h"
#include "wf/decode/sampling-impl.h"
#include "wf/engine/engine-impl.h"
#include "wf/engine/sequence-impl.h"
#include "wf/model/compare-impl.h"
#include "wf/model/config-impl.h"
#include "wf/model/fast_head-impl.h"
#include "wf/model/model-impl.h"
#include "wf/model/selftest-impl.h"
#include "wf/model/transformer-impl.h"
#include "wf/model/weights-impl.h"
