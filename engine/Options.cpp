//===- Options.cpp - what a caller of the C API asks for
//-------------------===//

#include "engine/Options.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/JSON.h"
#include "llvm/TargetParser/Host.h"

#include <optional>

using namespace llvm;

namespace gossamer {

static std::optional<Stage> parseStage(StringRef name) {
  return StringSwitch<std::optional<Stage>>(name)
      .Case("raise", Stage::Raise)
      .Case("lower", Stage::Lower)
      .Case("llvm", Stage::LLVM)
      .Case("asm", Stage::Asm)
      .Case("ptx", Stage::Asm)
      .Case("object", Stage::Object)
      .Default(std::nullopt);
}

Expected<CompileOptions> parseOptions(StringRef text) {
  CompileOptions options;
  bool cpuGiven = false, featuresGiven = false;
  if (!text.empty()) {
    Expected<json::Value> value = json::parse(text);
    if (!value)
      return value.takeError();
    json::Object *object = value->getAsObject();
    if (!object)
      return createStringError("options: not a JSON object: " + text.str());
    for (const auto &[key, entry] : *object) {
      std::optional<StringRef> given = entry.getAsString();
      if (!given)
        return createStringError("options: \"" + key.str() +
                                 "\" is not a string");
      if (key == "cpu") {
        options.cpu = given->str();
        cpuGiven = true;
      } else if (key == "features") {
        options.features = given->str();
        featuresGiven = true;
      } else if (key == "chip") {
        options.chip = given->str();
      } else if (key == "stage") {
        std::optional<Stage> stage = parseStage(*given);
        if (!stage)
          return createStringError(
              "options: stage \"" + given->str() +
              "\" is none of raise, lower, llvm, asm, ptx, object");
        options.stage = *stage;
      } else {
        return createStringError("options: unknown key \"" + key.str() + "\"");
      }
    }
  }
  // The host's features say nothing of another processor.
  if (!cpuGiven)
    options.cpu = hostCpu();
  if (!featuresGiven && !cpuGiven)
    options.features = hostFeatures();
  return options;
}

std::string hostCpu() { return sys::getHostCPUName().str(); }

std::string hostFeatures() {
  SmallVector<std::string> names;
  for (const auto &feature : sys::getHostCPUFeatures())
    names.push_back((feature.second ? "+" : "-") + feature.first().str());
  sort(names, [](StringRef a, StringRef b) {
    return a.drop_front() < b.drop_front();
  });
  return join(names, ",");
}

} // namespace gossamer
