//! AES-128-GCM by others: `ring`, and OpenSSL where its shared library is installed.

use ring::aead;
use std::ffi::{CStr, c_int, c_void};
use std::sync::LazyLock;

/// Bytes of a tag.
pub const TAG: usize = 16;

/// Bytes of a nonce.
pub const NONCE: usize = 12;

/// Seals with one key.
pub trait Seals {
    /// The library.
    fn name(&self) -> &'static str;

    /// Seals a record where it is.
    fn in_place(&mut self, nonce: [u8; NONCE], additional: &[u8], record: &mut [u8]) -> [u8; TAG];

    /// Seals a record to as many bytes elsewhere.
    fn copy(&mut self, nonce: [u8; NONCE], additional: &[u8], plain: &[u8], sealed: &mut [u8]) -> [u8; TAG] {
        sealed.copy_from_slice(plain);
        self.in_place(nonce, additional, sealed)
    }
}

/// Everyone who is here.
pub fn aes128_gcm(key: [u8; 16]) -> Vec<Box<dyn Seals>> {
    let mut all: Vec<Box<dyn Seals>> = Vec::new();
    if let Ok(key) = aead::UnboundKey::new(&aead::AES_128_GCM, &key) {
        all.push(Box::new(Ring(aead::LessSafeKey::new(key))));
    }
    if let Some(openssl) = OpenSsl::new(key) {
        all.push(Box::new(openssl));
    }
    all
}

struct Ring(aead::LessSafeKey);

impl Seals for Ring {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn in_place(&mut self, nonce: [u8; NONCE], additional: &[u8], record: &mut [u8]) -> [u8; TAG] {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = self.0.seal_in_place_separate_tag(nonce, aead::Aad::from(additional), record);
        let mut tag = [0; TAG];
        if let Ok(made) = sealed {
            tag.copy_from_slice(made.as_ref());
        }
        tag
    }
}

type Init = unsafe extern "C" fn(*mut c_void, *const c_void, *const c_void, *const u8, *const u8) -> c_int;
type Update = unsafe extern "C" fn(*mut c_void, *mut u8, *mut c_int, *const u8, c_int) -> c_int;

/// Functions of libcrypto, by the prototypes of `openssl/evp.h`.
struct Crypto {
    new: unsafe extern "C" fn() -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    aes_128_gcm: unsafe extern "C" fn() -> *const c_void,
    init: Init,
    update: Update,
    finish: unsafe extern "C" fn(*mut c_void, *mut u8, *mut c_int) -> c_int,
    ctrl: unsafe extern "C" fn(*mut c_void, c_int, c_int, *mut u8) -> c_int,
}

static CRYPTO: LazyLock<Option<Crypto>> = LazyLock::new(|| {
    // SAFETY: loading a system library runs its constructors, which other programs run as well.
    let library = unsafe { libc::dlopen(c"libcrypto.so.3".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        return None;
    }
    let symbol = |name: &CStr| -> Option<*mut c_void> {
        // SAFETY: the handle is open and stays so; the name is a C string.
        let address = unsafe { libc::dlsym(library, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    };
    // SAFETY: the types are those of the library's headers, version 3.
    unsafe {
        Some(Crypto {
            new: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *mut c_void>(symbol(
                c"EVP_CIPHER_CTX_new",
            )?),
            free: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(symbol(
                c"EVP_CIPHER_CTX_free",
            )?),
            aes_128_gcm: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_void>(symbol(
                c"EVP_aes_128_gcm",
            )?),
            init: std::mem::transmute::<*mut c_void, Init>(symbol(c"EVP_EncryptInit_ex")?),
            update: std::mem::transmute::<*mut c_void, Update>(symbol(c"EVP_EncryptUpdate")?),
            finish: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(*mut c_void, *mut u8, *mut c_int) -> c_int,
            >(symbol(c"EVP_EncryptFinal_ex")?),
            ctrl: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(*mut c_void, c_int, c_int, *mut u8) -> c_int,
            >(symbol(c"EVP_CIPHER_CTX_ctrl")?),
        })
    }
});

struct OpenSsl {
    crypto: &'static Crypto,
    context: *mut c_void,
}

impl OpenSsl {
    fn new(key: [u8; 16]) -> Option<OpenSsl> {
        let crypto = CRYPTO.as_ref()?;
        // SAFETY: a new context, which is checked; the key has as many bytes as the cipher takes.
        unsafe {
            let context = (crypto.new)();
            if context.is_null() {
                return None;
            }
            let this = OpenSsl { crypto, context };
            let null = std::ptr::null();
            ((crypto.init)(context, (crypto.aes_128_gcm)(), null, key.as_ptr(), null.cast()) == 1)
                .then_some(this)
        }
    }

    /// # Safety
    /// `from` is readable and `to` writable for `len` bytes; they are the same or do not overlap.
    unsafe fn seal(
        &mut self,
        nonce: [u8; NONCE],
        additional: &[u8],
        from: *const u8,
        to: *mut u8,
        len: usize,
    ) -> [u8; TAG] {
        /// `EVP_CTRL_GCM_GET_TAG`.
        const GET_TAG: c_int = 0x10;
        let (crypto, context, null) = (self.crypto, self.context, std::ptr::null::<c_void>());
        let mut tag = [0; TAG];
        let mut done = 0;
        // SAFETY: the context has a key; lengths are those of the slices, and the caller's.
        unsafe {
            (crypto.init)(context, null, null, null.cast(), nonce.as_ptr());
            let additional_len = additional.len() as c_int;
            (crypto.update)(context, std::ptr::null_mut(), &mut done, additional.as_ptr(), additional_len);
            (crypto.update)(context, to, &mut done, from, len as c_int);
            (crypto.finish)(context, tag.as_mut_ptr(), &mut done);
            (crypto.ctrl)(context, GET_TAG, TAG as c_int, tag.as_mut_ptr());
        }
        tag
    }
}

impl Seals for OpenSsl {
    fn name(&self) -> &'static str {
        "OpenSSL"
    }

    fn in_place(&mut self, nonce: [u8; NONCE], additional: &[u8], record: &mut [u8]) -> [u8; TAG] {
        let (at, len) = (record.as_mut_ptr(), record.len());
        // SAFETY: the record's own bytes.
        unsafe { self.seal(nonce, additional, at, at, len) }
    }

    fn copy(&mut self, nonce: [u8; NONCE], additional: &[u8], plain: &[u8], sealed: &mut [u8]) -> [u8; TAG] {
        assert!(plain.len() <= sealed.len());
        // SAFETY: two slices, the second as long as the first.
        unsafe { self.seal(nonce, additional, plain.as_ptr(), sealed.as_mut_ptr(), plain.len()) }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // SAFETY: the context is this one's alone.
        unsafe { (self.crypto.free)(self.context) }
    }
}
