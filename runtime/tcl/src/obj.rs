//! Tcl values.
use crate::{Error, Length, Result, init, sys, text};
use std::borrow::Cow;
use std::ffi::{c_char, c_int};
use std::fmt;
use std::ptr::{self, NonNull};

/// A Tcl value: a reference-counted pointer to a `Tcl_Obj`, and cheap to clone.
///
/// Every value is a string; what else it can be read as is up to the reader. Reading may change the cached internal
/// representation but never what the value means.
#[repr(transparent)]
pub struct Obj {
    ptr: NonNull<sys::Tcl_Obj>,
}

/// The string of a value that no Rust string can hold: it has a lone surrogate at a byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTclText {
    /// Where, in bytes of Tcl's own representation.
    pub offset: usize,
}

impl fmt::Display for NotTclText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the string has half a surrogate pair at byte {}, which is no character",
            self.offset
        )
    }
}

impl std::error::Error for NotTclText {}

impl Obj {
    /// Takes a reference to a value of Tcl's.
    ///
    /// # Safety
    /// `ptr` points to a live value of this thread.
    pub(crate) unsafe fn from_raw(ptr: *mut sys::Tcl_Obj) -> Obj {
        debug_assert!(!ptr.is_null());
        // SAFETY: Live, by the contract of this function, hence not null. The counting functions exist in every build of
        // libtcl, where the macros would depend on how it was configured.
        unsafe {
            sys::Tcl_DbIncrRefCount(ptr, FILE, line!() as c_int);
            Obj {
                ptr: NonNull::new_unchecked(ptr),
            }
        }
    }

    /// The value, which Tcl may read and whose internal representation it may change.
    pub(crate) fn as_ptr(&self) -> *mut sys::Tcl_Obj {
        self.ptr.as_ptr()
    }

    /// A C array of values as a slice, without touching their counts.
    ///
    /// # Safety
    /// `objv` points to `objc` live values of this thread, which outlive `'a`.
    pub(crate) unsafe fn slice<'a>(objc: c_int, objv: *const *mut sys::Tcl_Obj) -> &'a [Obj] {
        match usize::try_from(objc) {
            // SAFETY: By the contract of this function; `Obj` is a transparent, non-null pointer.
            Ok(len) if len > 0 => unsafe { std::slice::from_raw_parts(objv.cast::<Obj>(), len) },
            _ => &[],
        }
    }

    /// The empty string.
    pub fn empty() -> Obj {
        Obj::from("")
    }

    /// A byte array: the characters U+0000 to U+00FF.
    pub fn from_bytes(bytes: &[u8]) -> Obj {
        init::initialize();
        // SAFETY: Tcl copies `bytes`; a new value is live.
        unsafe { Obj::from_raw(sys::Tcl_NewByteArrayObj(bytes.as_ptr(), length(bytes.len()))) }
    }

    /// A list.
    ///
    /// # Panics
    /// If it is longer than Tcl's lists can be (about 2³⁰ elements).
    pub fn list(elements: impl IntoIterator<Item = impl Into<Obj>>) -> Obj {
        init::initialize();
        let elements: Vec<Obj> = elements.into_iter().map(Into::into).collect();
        // SAFETY: An `Obj` is a transparent pointer; Tcl copies the pointers and counts its own references.
        unsafe {
            Obj::from_raw(sys::Tcl_NewListObj(
                length(elements.len()),
                elements.as_ptr().cast(),
            ))
        }
    }

    /// A dict, in the order of `entries`; a later entry of the same key replaces the value of an earlier.
    pub fn dict(entries: impl IntoIterator<Item = (impl Into<Obj>, impl Into<Obj>)>) -> Obj {
        init::initialize();
        // SAFETY: A new value is live.
        let dict = unsafe { Obj::from_raw(sys::Tcl_NewDictObj()) };
        for (key, value) in entries {
            let (key, value) = (key.into(), value.into());
            // SAFETY: The dict is new and has one reference, so Tcl may change it; key and value are live.
            unsafe { sys::Tcl_DictObjPut(ptr::null_mut(), dict.as_ptr(), key.as_ptr(), value.as_ptr()) };
        }
        dict
    }

    /// The string, in Tcl's own encoding. Valid until the value is next read as something else, so it stays in here.
    fn with_tcl_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        let mut len: Length = 0;
        // SAFETY: Tcl makes the string if there is none and returns a pointer to `len` bytes, which stay where they are
        // while `read` runs: it is given nothing by which to reach the value.
        let bytes = unsafe {
            let start = sys::Tcl_GetStringFromObj(self.as_ptr(), &mut len);
            std::slice::from_raw_parts(start.cast::<u8>(), len.try_into().unwrap_or(0))
        };
        read(bytes)
    }

    /// The value as text.
    ///
    /// # Errors
    /// If it holds a lone surrogate.
    pub fn to_text(&self) -> Result<String, NotTclText> {
        self.with_tcl_bytes(|bytes| text::decode(bytes).map(Cow::into_owned))
            .map_err(|offset| NotTclText { offset })
    }

    /// The value as text, with U+FFFD for what is no character. For messages.
    pub fn to_text_lossy(&self) -> String {
        self.with_tcl_bytes(|bytes| match text::decode(bytes) {
            Ok(text) => text.into_owned(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        })
    }

    /// The value as bytes: each of its characters is one.
    ///
    /// # Errors
    /// If it has a character beyond U+00FF, which is not a byte. (`Tcl_GetByteArrayFromObj` would cut it to its low 8 bits.)
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        // SAFETY: Live values; Tcl returns a pointer to `len` bytes, which are copied before anything else can happen.
        // Whether the value is a byte array already is asked by its type, since its string would be costly to look at.
        unsafe {
            if !self.is_pure_byte_array()
                && let Some(c) = self.to_text()?.chars().find(|&c| c as u32 > 0xFF)
            {
                return Err(Error::expected("bytes (characters up to U+00FF)", &c.to_string()));
            }
            let mut len: Length = 0;
            let start = sys::Tcl_GetByteArrayFromObj(self.as_ptr(), &mut len);
            Ok(std::slice::from_raw_parts(start, len.try_into().unwrap_or(0)).to_vec())
        }
    }

    /// Whether the value was made as a byte array and never read as a string.
    fn is_pure_byte_array(&self) -> bool {
        // SAFETY: The fields of a live value may be read; the type of byte arrays is registered under that name.
        unsafe {
            let obj = self.as_ptr();
            (*obj).bytes.is_null() && (*obj).typePtr == sys::Tcl_GetObjType(c"bytearray".as_ptr())
        }
    }

    /// The value as an integer.
    ///
    /// # Errors
    /// If it is none, or does not fit in 64 bits with a sign. (`Tcl_GetWideIntFromObj` would wrap some that do not.)
    pub fn to_i64(&self) -> Result<i64> {
        let mut value = 0;
        // SAFETY: A live value and a place for the answer.
        let found = unsafe { sys::Tcl_GetWideIntFromObj(ptr::null_mut(), self.as_ptr(), &mut value) };
        if found != sys::TCL_OK as c_int {
            return Err(self.not("an integer"));
        }
        // Between 2⁶³ and 2⁶⁴ Tcl wraps to a negative number; only one written with a minus is one.
        if value < 0 && !self.with_tcl_bytes(|bytes| bytes.trim_ascii_start().starts_with(b"-")) {
            return Err(self.not("an integer below 9223372036854775808"));
        }
        Ok(value)
    }

    /// The value as a double.
    ///
    /// # Errors
    /// If it is no number.
    pub fn to_f64(&self) -> Result<f64> {
        let mut value = 0.0;
        // SAFETY: A live value and a place for the answer.
        let found = unsafe { sys::Tcl_GetDoubleFromObj(ptr::null_mut(), self.as_ptr(), &mut value) };
        if found == sys::TCL_OK as c_int {
            Ok(value)
        } else {
            Err(self.not("a floating-point number"))
        }
    }

    /// The value as a boolean: `true yes on false no off` and their abbreviations, or a number.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn to_bool(&self) -> Result<bool> {
        let mut value = 0;
        // SAFETY: A live value and a place for the answer.
        let found = unsafe { sys::Tcl_GetBooleanFromObj(ptr::null_mut(), self.as_ptr(), &mut value) };
        if found == sys::TCL_OK as c_int {
            Ok(value != 0)
        } else {
            Err(self.not("a boolean value"))
        }
    }

    /// The elements of the value as a list.
    ///
    /// # Errors
    /// If its string is no list, such as one with an unmatched brace.
    pub fn to_list(&self) -> Result<Vec<Obj>> {
        let (mut len, mut elements) = (0, ptr::null_mut());
        // SAFETY: A live value and places for the answers. The elements are counted before anything else can happen.
        unsafe {
            if sys::Tcl_ListObjGetElements(ptr::null_mut(), self.as_ptr(), &mut len, &mut elements)
                != sys::TCL_OK as c_int
            {
                return Err(self.not("a list"));
            }
            Ok(Obj::slice(len, elements).to_vec())
        }
    }

    /// The entries of the value as a dict, in its order.
    ///
    /// # Errors
    /// If it is no list of keys and values.
    pub fn to_dict(&self) -> Result<Vec<(Obj, Obj)>> {
        let elements = match self.to_list() {
            Ok(elements) if elements.len().is_multiple_of(2) => elements,
            _ => return Err(self.not("a dict")),
        };
        // Reading it as a list has kept all keys of a list that was no dict yet: the last of equal keys counts.
        let mut entries: Vec<(Obj, Obj)> = Vec::with_capacity(elements.len() / 2);
        let mut places = std::collections::HashMap::new();
        for pair in elements.chunks_exact(2) {
            let (key, value) = (pair[0].clone(), pair[1].clone());
            match places.entry(key.with_tcl_bytes(<[u8]>::to_vec)) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    let place: &usize = place.get();
                    entries[*place].1 = value;
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(entries.len());
                    entries.push((key, value));
                }
            }
        }
        Ok(entries)
    }

    /// The value of a key of the value as a dict, if it has that key.
    ///
    /// # Errors
    /// If it is no dict.
    pub fn get(&self, key: &str) -> Result<Option<Obj>> {
        let key = Obj::from(key);
        let mut value = ptr::null_mut();
        // SAFETY: Live values and a place for the answer, which is null or a live value.
        unsafe {
            match sys::Tcl_DictObjGet(ptr::null_mut(), self.as_ptr(), key.as_ptr(), &mut value) as u32 {
                sys::TCL_OK if value.is_null() => Ok(None),
                sys::TCL_OK => Ok(Some(Obj::from_raw(value))),
                _ => Err(self.not("a dict")),
            }
        }
    }

    fn not(&self, expected: &str) -> Error {
        Error::expected(expected, &self.to_text_lossy())
    }
}

const FILE: *const c_char = c"obj.rs".as_ptr();

/// A length for Tcl.
///
/// # Panics
/// Beyond 2 GiB, which no value of Tcl 8.6 can have.
pub(crate) fn length(len: usize) -> Length {
    Length::try_from(len).expect("a value of Tcl 8.6 has at most 2 GiB")
}

impl Clone for Obj {
    fn clone(&self) -> Obj {
        // SAFETY: `self` is live.
        unsafe { Obj::from_raw(self.as_ptr()) }
    }
}

impl Drop for Obj {
    fn drop(&mut self) {
        // SAFETY: The reference that this `Obj` holds is given back, once.
        unsafe { sys::Tcl_DbDecrRefCount(self.as_ptr(), FILE, line!() as c_int) }
    }
}

/// By their strings, as Tcl's `eq` compares.
impl PartialEq for Obj {
    fn eq(&self, other: &Obj) -> bool {
        self.ptr == other.ptr || self.with_tcl_bytes(<[u8]>::to_vec) == other.with_tcl_bytes(<[u8]>::to_vec)
    }
}

impl Eq for Obj {}

impl fmt::Debug for Obj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Obj({:?})", self.to_text_lossy())
    }
}

/// The text, with U+FFFD for what is no character.
impl fmt::Display for Obj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text_lossy())
    }
}

impl From<&str> for Obj {
    fn from(value: &str) -> Obj {
        init::initialize();
        let bytes = text::encode(value);
        // SAFETY: Tcl copies the bytes, which are in its encoding; a new value is live.
        unsafe { Obj::from_raw(sys::Tcl_NewStringObj(bytes.as_ptr().cast(), length(bytes.len()))) }
    }
}

impl From<String> for Obj {
    fn from(value: String) -> Obj {
        Obj::from(value.as_str())
    }
}

impl From<&String> for Obj {
    fn from(value: &String) -> Obj {
        Obj::from(value.as_str())
    }
}

impl From<&Obj> for Obj {
    fn from(value: &Obj) -> Obj {
        value.clone()
    }
}

impl From<i64> for Obj {
    fn from(value: i64) -> Obj {
        init::initialize();
        // SAFETY: A new value is live.
        unsafe { Obj::from_raw(sys::Tcl_NewWideIntObj(value)) }
    }
}

impl From<i32> for Obj {
    fn from(value: i32) -> Obj {
        Obj::from(i64::from(value))
    }
}

impl From<u32> for Obj {
    fn from(value: u32) -> Obj {
        Obj::from(i64::from(value))
    }
}

/// Beyond `i64::MAX` it is the integer all the same: Tcl's have no limit.
impl From<u64> for Obj {
    fn from(value: u64) -> Obj {
        i64::try_from(value).map_or_else(|_| Obj::from(value.to_string()), Obj::from)
    }
}

impl From<usize> for Obj {
    fn from(value: usize) -> Obj {
        Obj::from(value as u64)
    }
}

impl From<f64> for Obj {
    fn from(value: f64) -> Obj {
        init::initialize();
        // SAFETY: A new value is live.
        unsafe { Obj::from_raw(sys::Tcl_NewDoubleObj(value)) }
    }
}

impl From<bool> for Obj {
    fn from(value: bool) -> Obj {
        Obj::from(i64::from(value))
    }
}
