// SPDX-License-Identifier: Apache-2.0
// The bodies of the converter and the requantiser, compiled once for wf::model.
#include "wf/convert/convert-impl.h"
#include "wf/convert/hf_config-impl.h"
#include "wf/convert/names-impl.h"
#include "wf/convert/open_model-impl.h"
#include "wf/convert/requantise-impl.h"
