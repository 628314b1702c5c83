/* Calls into a PKCS#11 library that carry a clear value, or are made so often that
 * an allocation would show. They read and write memory of the caller's, which is
 * locked and wiped by the caller; nothing is copied to the C heap. After each call
 * the stack that the library used is overwritten. */
#include <stddef.h>

typedef unsigned long keyd_ulong;

/* A loaded library: its function list, taken once. */
typedef struct keyd_library keyd_library;

keyd_library *keyd_open(const char *path, const char **problem);

/* C_Initialize with operating-system locking. parameters are the library's own, as some take
 * them in pReserved (NSS softokn), or NULL. */
keyd_ulong keyd_initialize(keyd_library *, char *parameters);

keyd_ulong keyd_login(keyd_library *, keyd_ulong session, keyd_ulong user, void *pin, keyd_ulong pin_len);

/* One-part encryption or decryption without padding; out has room for in_len bytes.
 * parameter is the mechanism's own, an initialization vector for one, or NULL. */
keyd_ulong keyd_encrypt(keyd_library *, keyd_ulong session, keyd_ulong mechanism,
                        void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                        void *in, keyd_ulong in_len, void *out);
keyd_ulong keyd_decrypt(keyd_library *, keyd_ulong session, keyd_ulong mechanism,
                        void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                        void *in, keyd_ulong in_len, void *out);

/* One-part MAC; *out_len is the room on entry and the length on return. */
keyd_ulong keyd_sign(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                     void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len);

/* Rights of a session key. */
enum {
	KEYD_ENCRYPT = 1,
	KEYD_DECRYPT = 2,
	KEYD_SIGN = 4,
	KEYD_DERIVE = 8,
	KEYD_WRAP = 16,
	KEYD_UNWRAP = 32,
	KEYD_EXTRACTABLE = 64
};

/* Brings a clear key value into the token as a sensitive session object. */
keyd_ulong keyd_import(keyd_library *, keyd_ulong session, keyd_ulong key_type, int rights,
                       void *value, keyd_ulong value_len, keyd_ulong *object);

/* Unwraps a key as a sensitive, non-extractable session object. value_len is 0 for
 * key types that have one length. */
keyd_ulong keyd_unwrap(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                       void *wrapped, keyd_ulong wrapped_len, keyd_ulong key_type, keyd_ulong value_len,
                       int rights, keyd_ulong *object);

/* Derives a key by encrypting data (CKM_AES_ECB_ENCRYPT_DATA) as a sensitive,
 * non-extractable session object. */
keyd_ulong keyd_derive(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base_key,
                       void *data, keyd_ulong data_len, keyd_ulong key_type, keyd_ulong value_len,
                       int rights, keyd_ulong *object);

keyd_ulong keyd_destroy(keyd_library *, keyd_ulong session, keyd_ulong object);

/* One-part signature over a digest with a private key. parameter is the mechanism's
 * own or NULL; *out_len is the room on entry and the length on return. */
keyd_ulong keyd_sign_digest(keyd_library *, keyd_ulong session, keyd_ulong mechanism,
                            void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                            void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len);

/* One-part decryption with RSA-OAEP without a label; out has room for a modulus. */
keyd_ulong keyd_decrypt_oaep(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong hash, keyd_ulong mgf,
                             keyd_ulong key, void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len);

/* Agrees on a secret with a peer's public key (an uncompressed point; CKD_NULL) as a
 * session object of size bytes whose value can be read and which has no rights. */
keyd_ulong keyd_ecdh(keyd_library *, keyd_ulong session, keyd_ulong key, void *peer, keyd_ulong peer_len,
                     keyd_ulong size, keyd_ulong *object);

/* Reads an object's CKA_VALUE; with out NULL only its length. *out_len is the room on
 * entry and the length on return, 0 after an error. */
keyd_ulong keyd_value(keyd_library *, keyd_ulong session, keyd_ulong object, void *out, keyd_ulong *out_len);

/* Puts a private, unmodifiable data object on the token. */
keyd_ulong keyd_put_data(keyd_library *, keyd_ulong session, void *label, keyd_ulong label_len,
                         void *application, keyd_ulong application_len,
                         void *value, keyd_ulong value_len, keyd_ulong *object);

enum { KEYD_UNWRAP_TEMPLATE_MAX = 16 };

/* Brings a clear AES master key into the token, with these boolean attributes, one
 * mechanism (allowed_len is 1, or 0 for none), and an unwrap template of booleans (at most
 * 16). */
keyd_ulong keyd_import_master(keyd_library *, keyd_ulong session, void *label, keyd_ulong label_len,
                              keyd_ulong *flags, unsigned char *on, keyd_ulong flags_len,
                              void *id, keyd_ulong id_len, keyd_ulong allowed, keyd_ulong allowed_len,
                              keyd_ulong *unwrap, unsigned char *unwrap_on, keyd_ulong unwrap_len,
                              void *value, keyd_ulong value_len, keyd_ulong *object);

/* Unwraps a key as a sensitive session object that can be wrapped again and has no
 * other right. */
keyd_ulong keyd_unwrap_extractable(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                                   void *wrapped, keyd_ulong wrapped_len, keyd_ulong key_type, keyd_ulong *object);

/* Unwraps a key as a session object whose value can be read, without any right. */
keyd_ulong keyd_unwrap_readable(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                                void *wrapped, keyd_ulong wrapped_len, keyd_ulong *object);

/* Derives a key likewise (CKM_AES_ECB_ENCRYPT_DATA). */
keyd_ulong keyd_derive_readable(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base_key,
                                void *data, keyd_ulong data_len, keyd_ulong size, keyd_ulong *object);

/* Secrets that change inside the token, as session objects (composed.c). A size of 0 leaves
 * the length to the mechanism. Unwraps one: */
keyd_ulong keyd_unwrap_secret(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                              void *in, keyd_ulong in_len, keyd_ulong *object);

/* Wraps one; *out_len is the room on entry and the length on return. */
keyd_ulong keyd_wrap_secret(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                            keyd_ulong secret, void *out, keyd_ulong *out_len);

/* Derives one from another with a mechanism whose parameter is public data, or a number: a bit's
 * place or another object. */
keyd_ulong keyd_derive_data(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base,
                            void *data, keyd_ulong data_len, keyd_ulong key_type, keyd_ulong size, keyd_ulong *object);
keyd_ulong keyd_derive_number(keyd_library *, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base,
                              keyd_ulong number, keyd_ulong key_type, keyd_ulong size, keyd_ulong *object);

/* Makes a random one. */
keyd_ulong keyd_generate_secret(keyd_library *, keyd_ulong session, keyd_ulong size, keyd_ulong *object);

/* Agrees on an AES key with a peer's public key (an uncompressed point; CKD_NULL), which wraps
 * and has no other right. */
keyd_ulong keyd_agree(keyd_library *, keyd_ulong session, keyd_ulong key, void *peer, keyd_ulong peer_len,
                      keyd_ulong size, keyd_ulong *object);
