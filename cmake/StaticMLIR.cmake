# Debian's imported MLIR targets name the LLVM and MLIR shared libraries in their link interfaces. Gossamer is one
# self-contained library, so the shared ones are struck out of every imported target, and the static component archives
# of LLVM are linked instead. What MLIR's archives need of LLVM is listed once, in GOSSAMER_LLVM_COMPONENTS.

set(GOSSAMER_LLVM_COMPONENTS
  X86AsmParser X86CodeGen X86Desc X86Info NVPTXCodeGen NVPTXDesc NVPTXInfo
  OrcJIT Passes Target TargetParser MC AsmParser BitReader BitWriter IRReader Linker
  Core Support Analysis CodeGen TransformUtils FrontendOpenMP)

function(gossamer_use_static_mlir)
  get_property(targets DIRECTORY "${PROJECT_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  set(shared LLVM MLIR MLIRExecutionEngineShared)
  foreach(target IN LISTS targets)
    get_target_property(libs ${target} INTERFACE_LINK_LIBRARIES)
    if(NOT libs)
      continue()
    endif()
    set(kept "")
    foreach(lib IN LISTS libs)
      string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" plain "${lib}")
      if(NOT plain IN_LIST shared)
        list(APPEND kept "${lib}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_LINK_LIBRARIES "${kept}")
  endforeach()
endfunction()

gossamer_use_static_mlir()
llvm_map_components_to_libnames(GOSSAMER_LLVM_LIBS ${GOSSAMER_LLVM_COMPONENTS})
