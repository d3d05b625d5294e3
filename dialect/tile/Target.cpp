//===- Target.cpp - GPUs that tile programs are made for ------------------===//

#include "dialect/tile/Target.h"

using namespace gossamer::tile;

std::optional<Target> Target::of(llvm::StringRef chip) {
  bool isHopper = chip == "sm_90a";
  unsigned capability = 0;
  if (!chip.consume_front("sm_") || chip.consumeInteger(10, capability) ||
      capability < 80)
    return std::nullopt;
  int64_t kilobytes = 99; // sm_86, sm_89, sm_120, and what is not known
  switch (capability) {
  case 80:
  case 87:
    kilobytes = 163;
    break;
  case 90:
  case 100:
  case 101:
  case 103:
  case 110:
    kilobytes = 227;
    break;
  }
  return Target{isHopper, kilobytes * 1024};
}
