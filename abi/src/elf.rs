//! ELF64 as the kernel reads and writes it.

pub use linux_raw_sys::elf_uapi::{
    DT_ADDRRNGHI, DT_ADDRRNGLO, DT_DEBUG, DT_ENCODING, DT_FINI, DT_FLAGS_1, DT_GNU_HASH, DT_HASH, DT_HIOS,
    DT_HIPROC, DT_INIT, DT_JMPREL, DT_LOOS, DT_LOPROC, DT_NEEDED, DT_NULL, DT_PLTGOT, DT_PLTREL, DT_PLTRELSZ,
    DT_REL, DT_RELA, DT_RELACOUNT, DT_RELAENT, DT_RELASZ, DT_RELCOUNT, DT_RELENT, DT_RELSZ, DT_RPATH,
    DT_SONAME, DT_STRSZ, DT_STRTAB, DT_SYMBOLIC, DT_SYMENT, DT_SYMTAB, DT_TEXTREL, DT_VALRNGHI, DT_VALRNGLO,
    DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM, DT_VERSYM, EI_CLASS, EI_DATA, EI_MAG0, EI_MAG1,
    EI_MAG2, EI_MAG3, EI_NIDENT, EI_OSABI, EI_PAD, EI_VERSION, ELFCLASS32, ELFCLASS64, ELFCLASSNONE,
    ELFCLASSNUM, ELFDATA2LSB, ELFDATA2MSB, ELFDATANONE, ELFMAG, ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3,
    ELFOSABI_LINUX, ELFOSABI_NONE, ET_CORE, ET_DYN, ET_EXEC, ET_HIPROC, ET_LOPROC, ET_NONE, ET_REL,
    EV_CURRENT, EV_NONE, EV_NUM, GNU_PROPERTY_AARCH64_FEATURE_1_AND, GNU_PROPERTY_AARCH64_FEATURE_1_BTI,
    NT_AUXV, NT_FILE, NT_GNU_PROPERTY_TYPE_0, NT_PRFPREG, NT_PRPSINFO, NT_PRSTATUS, NT_SIGINFO,
    NT_X86_XSTATE, PF_R, PF_W, PF_X, PN_XNUM, PT_AARCH64_MEMTAG_MTE, PT_DYNAMIC, PT_GNU_EH_FRAME,
    PT_GNU_PROPERTY, PT_GNU_RELRO, PT_GNU_STACK, PT_HIOS, PT_HIPROC, PT_INTERP, PT_LOAD, PT_LOOS, PT_LOPROC,
    PT_NOTE, PT_NULL, PT_PHDR, PT_SHLIB, PT_TLS, SHF_ALLOC, SHF_EXCLUDE, SHF_EXECINSTR, SHF_GROUP,
    SHF_INFO_LINK, SHF_LINK_ORDER, SHF_MASKOS, SHF_MASKPROC, SHF_MERGE, SHF_ORDERED, SHF_OS_NONCONFORMING,
    SHF_RELA_LIVEPATCH, SHF_RO_AFTER_INIT, SHF_STRINGS, SHF_TLS, SHF_WRITE, SHN_ABS, SHN_COMMON, SHN_HIPROC,
    SHN_HIRESERVE, SHN_LIVEPATCH, SHN_LOPROC, SHN_LORESERVE, SHN_UNDEF, SHT_DYNAMIC, SHT_DYNSYM, SHT_HASH,
    SHT_HIPROC, SHT_HIUSER, SHT_LOPROC, SHT_LOUSER, SHT_NOBITS, SHT_NOTE, SHT_NULL, SHT_NUM, SHT_PROGBITS,
    SHT_REL, SHT_RELA, SHT_SHLIB, SHT_STRTAB, SHT_SYMTAB,
};

abi_struct! {
    /// `Elf64_Ehdr`.
    pub struct Elf64Header: 64 {
        /// Magic, class, byte order, version, ABI.
        pub e_ident: [u8; 16],
        /// `ET_*`.
        pub e_type: u16,
        /// `EM_*`.
        pub e_machine: u16,
        /// 1.
        pub e_version: u32,
        /// First instruction.
        pub e_entry: u64,
        /// File offset of the program headers.
        pub e_phoff: u64,
        /// File offset of the section headers.
        pub e_shoff: u64,
        /// Processor flags.
        pub e_flags: u32,
        /// Size of this header.
        pub e_ehsize: u16,
        /// Size of a program header.
        pub e_phentsize: u16,
        /// Number of program headers.
        pub e_phnum: u16,
        /// Size of a section header.
        pub e_shentsize: u16,
        /// Number of section headers.
        pub e_shnum: u16,
        /// Section of the section names.
        pub e_shstrndx: u16,
    }
}

abi_struct! {
    /// `Elf64_Phdr`.
    pub struct Elf64ProgramHeader: 56 {
        /// `PT_*`.
        pub p_type: u32,
        /// `PF_*`.
        pub p_flags: u32,
        /// File offset.
        pub p_offset: u64,
        /// Address.
        pub p_vaddr: u64,
        /// Unused.
        pub p_paddr: u64,
        /// Bytes in the file.
        pub p_filesz: u64,
        /// Bytes in memory.
        pub p_memsz: u64,
        /// Alignment.
        pub p_align: u64,
    }
}

/// Intel 80386.
pub const EM_386: u16 = 3;
/// AMD x86-64.
pub const EM_X86_64: u16 = 62;
/// Arm 64-bit.
pub const EM_AARCH64: u16 = 183;
/// RISC-V.
pub const EM_RISCV: u16 = 243;
