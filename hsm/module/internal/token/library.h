/* What the C files of this package share: the function list of a loaded library,
 * PKCS#11's structures and numbers, as far as keyd uses them, and the overwriting of
 * the stack. Go sees direct.h only. */
#include "direct.h"

/* CK_FUNCTION_LIST of PKCS#11 2.40 and later: a version, then 68 functions in the
 * order of the standard. */
typedef struct {
	unsigned char version[2];
	void (*function[68])(void);
} function_list;

enum {
	F_INITIALIZE = 0,
	F_LOGIN = 18,
	F_CREATE_OBJECT = 20,
	F_DESTROY_OBJECT = 22,
	F_GET_ATTRIBUTE_VALUE = 24,
	F_ENCRYPT_INIT = 29,
	F_ENCRYPT = 30,
	F_DECRYPT_INIT = 33,
	F_DECRYPT = 34,
	F_SIGN_INIT = 42,
	F_SIGN = 43,
	F_GENERATE_KEY = 58,
	F_WRAP_KEY = 60,
	F_UNWRAP_KEY = 61,
	F_DERIVE_KEY = 62
};

struct keyd_library {
	function_list *list;
};

/* CK_ATTRIBUTE */
typedef struct {
	keyd_ulong type;
	void *value;
	keyd_ulong len;
} attribute;

/* CK_MECHANISM */
typedef struct {
	keyd_ulong type;
	void *parameter;
	keyd_ulong len;
} mechanism_t;

/* CK_KEY_DERIVATION_STRING_DATA */
typedef struct {
	void *data;
	keyd_ulong len;
} string_data;

enum {
	CKA_CLASS = 0x000,
	CKA_TOKEN = 0x001,
	CKA_PRIVATE = 0x002,
	CKA_LABEL = 0x003,
	CKA_APPLICATION = 0x010,
	CKA_VALUE = 0x011,
	CKA_KEY_TYPE = 0x100,
	CKA_ID = 0x102,
	CKA_SENSITIVE = 0x103,
	CKA_ENCRYPT = 0x104,
	CKA_DECRYPT = 0x105,
	CKA_WRAP = 0x106,
	CKA_UNWRAP = 0x107,
	CKA_SIGN = 0x108,
	CKA_VERIFY = 0x10A,
	CKA_DERIVE = 0x10C,
	CKA_VALUE_LEN = 0x161,
	CKA_EXTRACTABLE = 0x162,
	CKA_MODIFIABLE = 0x170,
	CKA_UNWRAP_TEMPLATE = 0x40000212,
	CKA_ALLOWED_MECHANISMS = 0x40000600,
	CKO_DATA = 0,
	CKO_SECRET_KEY = 4,
	CKK_GENERIC_SECRET = 0x10,
	CKK_AES = 0x1F,
	CKM_GENERIC_SECRET_KEY_GEN = 0x350,
	CKM_ECDH1_DERIVE = 0x1050,
	CKD_NULL = 1,
	CKR_FUNCTION_FAILED = 6,
	CKR_ARGUMENTS_BAD = 7
};

/* CK_BBOOL, in memory that an attribute can point to. */
extern unsigned char keyd_yes, keyd_no;

/* The attributes of a secret that this process reads, and that may do nothing else. Private,
 * so that a token that enciphers private objects keeps no clear copy. */
#define READABLE_ONLY \
	{ CKA_TOKEN, &keyd_no, 1 }, \
	{ CKA_PRIVATE, &keyd_yes, 1 }, \
	{ CKA_SENSITIVE, &keyd_no, 1 }, \
	{ CKA_EXTRACTABLE, &keyd_yes, 1 }, \
	{ CKA_ENCRYPT, &keyd_no, 1 }, \
	{ CKA_DECRYPT, &keyd_no, 1 }, \
	{ CKA_SIGN, &keyd_no, 1 }, \
	{ CKA_VERIFY, &keyd_no, 1 }, \
	{ CKA_DERIVE, &keyd_no, 1 }, \
	{ CKA_WRAP, &keyd_no, 1 }, \
	{ CKA_UNWRAP, &keyd_no, 1 }

/* Overwrites the stack below the caller's frame, where the library worked. */
void keyd_scrub(void);

/* C_CreateObject, C_UnwrapKey and C_DeriveKey; the stack is overwritten after each. */
keyd_ulong keyd_create(keyd_library *, keyd_ulong session, attribute *, keyd_ulong n, keyd_ulong *object);
keyd_ulong keyd_unwrap_as(keyd_library *, keyd_ulong session, mechanism_t *, keyd_ulong wrapping_key,
                          void *wrapped, keyd_ulong wrapped_len, attribute *, keyd_ulong n, keyd_ulong *object);
keyd_ulong keyd_derive_as(keyd_library *, keyd_ulong session, mechanism_t *, keyd_ulong base_key,
                          attribute *, keyd_ulong n, keyd_ulong *object);

/* A one-part operation: the init function and the one that does it, by their place in
 * the list. *out_len is the room on entry and the length on return. */
keyd_ulong keyd_one_part(keyd_library *, int init, int call, keyd_ulong session, mechanism_t,
                         keyd_ulong key, void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len);

/* Fills the attributes that all session keys of keyd have in common; class and key
 * type stay the caller's memory. Returns how many: 13. */
keyd_ulong keyd_describe(attribute *, keyd_ulong *class, keyd_ulong *key_type, int rights);
