//! Finds the object of the process (the program or a shared library) whose function another object calls.
//!
//! One process can contain two libraries with functions of the same names: for example one that is part of the program,
//! and one that a module loaded. The name of a function does not tell in which of them a look-up finds it.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

/// An object in the process.
#[derive(Clone, Debug)]
pub struct Object {
    /// The address at which it begins.
    base: usize,
    /// An address within it.
    address: usize,
    file: CString,
}

impl Object {
    /// The object that holds this address.
    #[must_use]
    #[allow(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "dladdr compares it, and does not follow it"
    )]
    pub fn of(address: *const c_void) -> Option<Self> {
        let mut info = libc::Dl_info {
            dli_fname: ptr::null(),
            dli_fbase: ptr::null_mut(),
            dli_sname: ptr::null(),
            dli_saddr: ptr::null_mut(),
        };
        // SAFETY: dladdr compares the address with those of the loaded objects and does not follow the address; it
        // writes to `info`.
        let found = unsafe { libc::dladdr(address, &raw mut info) } != 0;
        if !found || info.dli_fname.is_null() {
            return None;
        }
        // SAFETY: after a success `dli_fname` is null or a terminated string that lives as long as the object is
        // loaded. The object is the server's program, or a library that the server does not unload during this call.
        let file = unsafe { CStr::from_ptr(info.dli_fname) }.to_owned();
        Some(Self { base: info.dli_fbase.addr(), address: address.addr(), file })
    }

    /// Whether both are the same object.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.base == other.base
    }

    /// Its file, or for the program the name on its command line.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.file.to_bytes()))
    }

    /// The object's own function of this name, not that of another object; null if it has none.
    pub(crate) fn function(&self, name: &CStr) -> *mut c_void {
        let is_own = |found: &*mut c_void| Self::of(found.cast_const()).is_some_and(|o| o.is(self));
        // The program's name is from its command line, so no file is found by it. Its functions are found by a search
        // of all objects, which begins with the program.
        // SAFETY: the strings end with a null byte. With RTLD_NOLOAD, dlopen loads nothing and runs no code of the
        // object. The handle is closed, and the object stays loaded, since dlopen counts references.
        let found = unsafe {
            let handle = libc::dlopen(self.file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            let found =
                if handle.is_null() { ptr::null_mut() } else { libc::dlsym(handle, name.as_ptr()) };
            if !handle.is_null() {
                libc::dlclose(handle);
            }
            found
        };
        if is_own(&found) {
            return found;
        }
        // SAFETY: the name ends with a null byte, and dlsym only looks it up.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if is_own(&found) { found } else { ptr::null_mut() }
    }

    /// The object whose function of this name this object calls.
    pub(crate) fn provider(&self, name: &CStr) -> Option<Self> {
        // SAFETY: the name ends with a null byte, and dlsym only looks it up.
        let by_name = || unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.cast_const();
        let callee = self.bound_to(name).unwrap_or_else(by_name);
        Self::of(callee)
    }

    /// Whether it calls a function of this name in another object.
    #[must_use]
    pub fn calls(&self, name: &CStr) -> bool {
        !self.written_for(name).found.is_null()
    }

    /// The address that the dynamic linker has written into this object for a function of another object; none if it
    /// has not done so yet, or if the format is not supported here.
    fn bound_to(&self, name: &CStr) -> Option<*const c_void> {
        let Search { found, is_own, .. } = self.written_for(name);
        // The entry of a function that has not been called yet points back into this object.
        let is_bound = is_own || Self::of(found).is_some_and(|holder| !holder.is(self));
        is_bound.then_some(found)
    }

    /// The entry for a function of this name in this object's relocation tables, if it has one.
    fn written_for<'a>(&self, name: &'a CStr) -> Search<'a> {
        let mut search = Search { address: self.address, name, found: ptr::null(), is_own: false };
        // SAFETY: dl_iterate_phdr passes the pointer to `visit` during the call, and `search` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        search
    }
}

struct Search<'a> {
    /// An address in the object that is searched.
    address: usize,
    name: &'a CStr,
    found: *const c_void,
    /// Whether the object itself has a function of this name.
    is_own: bool,
}

/// Called for each object of the process; a result other than 0 ends the walk.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr passes a live description of an object, and holds the lock of the dynamic linker, so that
    // the object stays loaded. `search` is the pointer that `written_for` has passed. Nothing here panics, which must
    // not happen under the frames of the C library.
    unsafe { imp::visit(&*info, &mut *search.cast::<Search<'_>>()) }
}

#[cfg(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod imp {
    use super::{CStr, Search, c_int, c_void, ptr};

    /// An entry of a relocation table, `Elf64_Rela`.
    #[repr(C)]
    struct Relocation {
        offset: u64,
        info: u64,
        _addend: i64,
    }

    /// The kinds of entries that hold a function's address alone: JUMP_SLOT and GLOB_DAT.
    #[cfg(target_arch = "x86_64")]
    const ADDRESSES: [u64; 2] = [7, 6];
    #[cfg(target_arch = "aarch64")]
    const ADDRESSES: [u64; 2] = [1026, 1025];

    // From `elf.h`.
    const DT_PLTRELSZ: u64 = 2;
    const DT_STRTAB: u64 = 5;
    const DT_SYMTAB: u64 = 6;
    const DT_RELA: u64 = 7;
    const DT_RELASZ: u64 = 8;
    const DT_JMPREL: u64 = 23;

    /// # Safety
    /// dl_iterate_phdr has passed `info`, which describes a loaded object.
    pub(super) unsafe fn visit(info: &libc::dl_phdr_info, search: &mut Search<'_>) -> c_int {
        let base = info.dlpi_addr;
        // SAFETY: by the caller's promise `dlpi_phdr` points to `dlpi_phnum` program headers of the object.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let (mut is_it, mut dynamic): (bool, *const [u64; 2]) = (false, ptr::null());
        for header in headers {
            let start = base.wrapping_add(header.p_vaddr);
            if header.p_type == libc::PT_LOAD {
                is_it |= (search.address as u64).wrapping_sub(start) < header.p_memsz;
            } else if header.p_type == libc::PT_DYNAMIC {
                dynamic = ptr::with_exposed_provenance(start as usize);
            }
        }
        if !is_it {
            return 0;
        }
        if !dynamic.is_null() {
            // SAFETY: by the caller's promise; PT_DYNAMIC is the program header of the dynamic section.
            unsafe { read(base, dynamic, search) };
        }
        1
    }

    /// # Safety
    /// `dynamic` is the dynamic section of the object that is loaded at `base`.
    unsafe fn read(base: u64, mut dynamic: *const [u64; 2], search: &mut Search<'_>) {
        let (mut strings, mut symbols) = (0, 0);
        let (mut tables, mut sizes) = ([0; 2], [0; 2]);
        // Some C libraries replace the relative addresses by absolute ones, others do not.
        let absolute = |value: u64| if value < base { value.wrapping_add(base) } else { value };
        // SAFETY: by the caller's promise; the last entry of a dynamic section has the tag 0, DT_NULL.
        unsafe {
            while (*dynamic)[0] != 0 {
                let [tag, value] = *dynamic;
                match tag {
                    DT_STRTAB => strings = absolute(value),
                    DT_SYMTAB => symbols = absolute(value),
                    DT_JMPREL => tables[0] = absolute(value),
                    DT_PLTRELSZ => sizes[0] = value,
                    DT_RELA => tables[1] = absolute(value),
                    DT_RELASZ => sizes[1] = value,
                    _ => {}
                }
                dynamic = dynamic.add(1);
            }
        }
        if strings == 0 || symbols == 0 {
            return;
        }
        let symbols: *const libc::Elf64_Sym = ptr::with_exposed_provenance(symbols as usize);
        for (table, size) in tables.into_iter().zip(sizes) {
            let table: *const Relocation = ptr::with_exposed_provenance(table as usize);
            let count = if table.is_null() { 0 } else { size as usize / size_of::<Relocation>() };
            for index in 0..count {
                // SAFETY: by the caller's promise: the table has `count` entries, each entry refers to a symbol, the
                // symbol to a string, and the dynamic linker has written the address of the entry.
                unsafe {
                    let relocation = &*table.add(index);
                    let symbol = (relocation.info >> 32) as usize;
                    if symbol == 0 || !ADDRESSES.contains(&(relocation.info & 0xffff_ffff)) {
                        continue;
                    }
                    let symbol = &*symbols.add(symbol);
                    let name = strings as usize + symbol.st_name as usize;
                    if CStr::from_ptr(ptr::with_exposed_provenance(name)) != search.name {
                        continue;
                    }
                    let place = base.wrapping_add(relocation.offset) as usize;
                    let place: *const *const c_void = ptr::with_exposed_provenance(place);
                    search.found = *place;
                    search.is_own = symbol.st_shndx != 0;
                    // A function that is both called and referenced has two entries. The linker fills in the second
                    // one, which is read next, at once.
                }
            }
        }
    }
}

#[cfg(not(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod imp {
    use super::{Search, c_int};

    pub(super) unsafe fn visit(_: &libc::dl_phdr_info, _: &mut Search<'_>) -> c_int {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_functions_and_the_provider_of_a_called_function_are_found() {
        // A function of this program calls the C library's.
        let own = Object::of(visit as *const c_void).expect("this program");
        let c = own.provider(c"dladdr").expect("the C library");
        assert!(!own.is(&c), "{own:?} {c:?}");
        assert_eq!(own.bound_to(c"dladdr"), Some(libc::dladdr as *const c_void));
        assert_eq!(c.function(c"dladdr").cast_const(), libc::dladdr as *const c_void);
        assert_eq!(own.function(c"dladdr"), ptr::null_mut());
        assert_eq!(c.function(c"no_such_function"), ptr::null_mut());
        assert!(own.calls(c"dladdr") && !own.calls(c"no_such_function"));
    }
}
