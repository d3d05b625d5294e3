//===- Version.cpp - which build this is, and which machine
//----------------===//

#include "engine/Options.h"
#include "engine/include/gossamer-c.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"

#include <elf.h>
#include <link.h>

namespace {

struct Search {
  uintptr_t address; ///< something inside the library looked for
  std::string buildId;
};

/// Reads the linker's build id, a hash of the whole library, from the notes of
/// the one that holds `address`.
int readBuildId(dl_phdr_info *info, size_t, void *data) {
  auto &search = *static_cast<Search *>(data);
  auto inside = [&](const ElfW(Phdr) & header) {
    uintptr_t start = info->dlpi_addr + header.p_vaddr;
    return header.p_type == PT_LOAD && start <= search.address &&
           search.address < start + header.p_memsz;
  };
  llvm::ArrayRef<ElfW(Phdr)> headers(info->dlpi_phdr, info->dlpi_phnum);
  if (llvm::none_of(headers, inside))
    return 0;
  for (const ElfW(Phdr) &header : headers) {
    if (header.p_type != PT_NOTE)
      continue;
    const auto *at =
        reinterpret_cast<const uint8_t *>(info->dlpi_addr + header.p_vaddr);
    const uint8_t *end = at + header.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      const auto *note = reinterpret_cast<const ElfW(Nhdr) *>(at);
      const uint8_t *name = at + sizeof(*note);
      const uint8_t *content = name + llvm::alignTo(note->n_namesz, 4);
      if (note->n_type == NT_GNU_BUILD_ID) {
        search.buildId =
            llvm::toHex(llvm::ArrayRef<uint8_t>(content, note->n_descsz),
                        /*LowerCase=*/true);
        return 1;
      }
      at = content + llvm::alignTo(note->n_descsz, 4);
    }
  }
  return 1;
}

} // namespace

const char *gs_version() {
  static const std::string version = [] {
    Search search{reinterpret_cast<uintptr_t>(&gs_version), ""};
    dl_iterate_phdr(readBuildId, &search);
    return std::string(GOSSAMER_VERSION " llvm-" LLVM_VERSION_STRING " ") +
           search.buildId;
  }();
  return version.c_str();
}

const char *gs_host_cpu() {
  static const std::string cpu = gossamer::hostCpu();
  return cpu.c_str();
}

const char *gs_host_features() {
  static const std::string features = gossamer::hostFeatures();
  return features.c_str();
}
