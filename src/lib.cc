// SPDX-License-Identifier: Apache-2.0
// The bodies of layers 0-2, compiled once for wf::kernels.
#include "wf/base/mmap-impl.h"
#include "wf/base/thread_pool-impl.h"
#include "wf/formats/gguf-impl.h"
#include "wf/formats/gguf_writer-impl.h"
#include "wf/kernels/head_scan-impl.h"
#include "wf/quant/pack-impl.h"
#include "wf/quant/tl2-impl.h"
