#include "direct.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* CK_FUNCTION_LIST of PKCS#11 2.40 and later: a version, then 68 functions in the
 * order of the standard. */
typedef struct {
	unsigned char version[2];
	void (*function[68])(void);
} function_list;

enum {
	F_LOGIN = 18,
	F_CREATE_OBJECT = 20,
	F_DESTROY_OBJECT = 22,
	F_ENCRYPT_INIT = 29,
	F_ENCRYPT = 30,
	F_DECRYPT_INIT = 33,
	F_DECRYPT = 34,
	F_SIGN_INIT = 42,
	F_SIGN = 43,
	F_UNWRAP_KEY = 61,
	F_DERIVE_KEY = 62
};

struct keyd_library {
	function_list *list;
};

typedef struct {
	keyd_ulong type;
	void *value;
	keyd_ulong len;
} attribute;

typedef struct {
	keyd_ulong type;
	void *parameter;
	keyd_ulong len;
} mechanism_t;

/* CK_KEY_DERIVATION_STRING_DATA */
typedef struct {
	unsigned char *data;
	keyd_ulong len;
} string_data;

enum {
	CKA_CLASS = 0x000,
	CKA_TOKEN = 0x001,
	CKA_PRIVATE = 0x002,
	CKA_VALUE = 0x011,
	CKA_KEY_TYPE = 0x100,
	CKA_SENSITIVE = 0x103,
	CKA_ENCRYPT = 0x104,
	CKA_DECRYPT = 0x105,
	CKA_WRAP = 0x106,
	CKA_UNWRAP = 0x107,
	CKA_SIGN = 0x108,
	CKA_DERIVE = 0x10C,
	CKA_VALUE_LEN = 0x161,
	CKA_EXTRACTABLE = 0x162,
	CKO_SECRET_KEY = 4,
	CKR_FUNCTION_FAILED = 6
};

/* The stack below this frame is where the library worked. It is overwritten with
 * zeros through a volatile pointer, which no compiler removes. */
static __attribute__((noinline)) void scrub(void)
{
	unsigned char used[24 * 1024];
	volatile unsigned char *p = used;
	memset(used, 0, sizeof used);
	__asm__ volatile("" : : "r"(p) : "memory");
}

keyd_library *keyd_open(const char *path, const char **problem)
{
	*problem = NULL;
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		*problem = dlerror();
		return NULL;
	}
	keyd_ulong (*get)(function_list **) = (keyd_ulong(*)(function_list **))dlsym(handle, "C_GetFunctionList");
	if (get == NULL) {
		*problem = "it has no C_GetFunctionList: not a PKCS#11 library";
		return NULL;
	}
	keyd_library *library = malloc(sizeof *library);
	if (library == NULL || get(&library->list) != 0 || library->list == NULL) {
		free(library);
		*problem = "C_GetFunctionList failed";
		return NULL;
	}
	return library;
}

keyd_ulong keyd_login(keyd_library *l, keyd_ulong session, keyd_ulong user, void *pin, keyd_ulong pin_len)
{
	keyd_ulong (*login)(keyd_ulong, keyd_ulong, void *, keyd_ulong) =
		(keyd_ulong(*)(keyd_ulong, keyd_ulong, void *, keyd_ulong))l->list->function[F_LOGIN];
	keyd_ulong rv = login(session, user, pin, pin_len);
	scrub();
	return rv;
}

typedef keyd_ulong (*init_function)(keyd_ulong, mechanism_t *, keyd_ulong);
typedef keyd_ulong (*data_function)(keyd_ulong, void *, keyd_ulong, void *, keyd_ulong *);

static keyd_ulong one_part(keyd_library *l, int init, int call, keyd_ulong session, mechanism_t m,
                           keyd_ulong key, void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len)
{
	keyd_ulong rv = ((init_function)l->list->function[init])(session, &m, key);
	if (rv == 0)
		rv = ((data_function)l->list->function[call])(session, in, in_len, out, out_len);
	scrub();
	return rv;
}

keyd_ulong keyd_encrypt(keyd_library *l, keyd_ulong session, keyd_ulong mechanism,
                        void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                        void *in, keyd_ulong in_len, void *out)
{
	mechanism_t m = { mechanism, parameter, parameter_len };
	keyd_ulong out_len = in_len;
	keyd_ulong rv = one_part(l, F_ENCRYPT_INIT, F_ENCRYPT, session, m, key, in, in_len, out, &out_len);
	return rv == 0 && out_len != in_len ? CKR_FUNCTION_FAILED : rv;
}

keyd_ulong keyd_decrypt(keyd_library *l, keyd_ulong session, keyd_ulong mechanism,
                        void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                        void *in, keyd_ulong in_len, void *out)
{
	mechanism_t m = { mechanism, parameter, parameter_len };
	keyd_ulong out_len = in_len;
	keyd_ulong rv = one_part(l, F_DECRYPT_INIT, F_DECRYPT, session, m, key, in, in_len, out, &out_len);
	return rv == 0 && out_len != in_len ? CKR_FUNCTION_FAILED : rv;
}

keyd_ulong keyd_sign(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                     void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len)
{
	mechanism_t m = { mechanism, NULL, 0 };
	return one_part(l, F_SIGN_INIT, F_SIGN, session, m, key, in, in_len, out, out_len);
}

static unsigned char yes = 1, no = 0;

/* Fills the attributes that all session keys of keyd have in common. Every right is
 * set, so that no token's default adds one. */
static keyd_ulong describe(attribute *t, keyd_ulong *class, keyd_ulong *key_type, int rights)
{
	struct {
		keyd_ulong type;
		int on;
	} flags[] = {
		{ CKA_TOKEN, 0 },
		{ CKA_PRIVATE, 1 },
		{ CKA_SENSITIVE, 1 },
		{ CKA_EXTRACTABLE, rights & KEYD_EXTRACTABLE },
		{ CKA_ENCRYPT, rights & KEYD_ENCRYPT },
		{ CKA_DECRYPT, rights & KEYD_DECRYPT },
		{ CKA_SIGN, rights & KEYD_SIGN },
		{ CKA_DERIVE, rights & KEYD_DERIVE },
		{ CKA_WRAP, rights & KEYD_WRAP },
		{ CKA_UNWRAP, rights & KEYD_UNWRAP },
	};
	keyd_ulong n = 0;
	*class = CKO_SECRET_KEY;
	t[n++] = (attribute){ CKA_CLASS, class, sizeof *class };
	t[n++] = (attribute){ CKA_KEY_TYPE, key_type, sizeof *key_type };
	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
		t[n++] = (attribute){ flags[i].type, flags[i].on ? &yes : &no, 1 };
	return n;
}

keyd_ulong keyd_import(keyd_library *l, keyd_ulong session, keyd_ulong key_type, int rights,
                       void *value, keyd_ulong value_len, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = describe(t, &class, &key_type, rights);
	t[n++] = (attribute){ CKA_VALUE, value, value_len };
	keyd_ulong (*create)(keyd_ulong, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, attribute *, keyd_ulong, keyd_ulong *))l->list->function[F_CREATE_OBJECT];
	keyd_ulong rv = create(session, t, n, object);
	scrub();
	return rv;
}

keyd_ulong keyd_unwrap(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                       void *wrapped, keyd_ulong wrapped_len, keyd_ulong key_type, keyd_ulong value_len,
                       int rights, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = describe(t, &class, &key_type, rights & ~KEYD_EXTRACTABLE);
	mechanism_t m = { mechanism, NULL, 0 };
	if (value_len != 0)
		t[n++] = (attribute){ CKA_VALUE_LEN, &value_len, sizeof value_len };
	keyd_ulong (*unwrap)(keyd_ulong, mechanism_t *, keyd_ulong, void *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, mechanism_t *, keyd_ulong, void *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *))
			l->list->function[F_UNWRAP_KEY];
	keyd_ulong rv = unwrap(session, &m, wrapping_key, wrapped, wrapped_len, t, n, object);
	scrub();
	return rv;
}

keyd_ulong keyd_derive(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base_key,
                       void *data, keyd_ulong data_len, keyd_ulong key_type, keyd_ulong value_len,
                       int rights, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = describe(t, &class, &key_type, rights & ~KEYD_EXTRACTABLE);
	string_data parameter = { data, data_len };
	mechanism_t m = { mechanism, &parameter, sizeof parameter };
	if (value_len != 0)
		t[n++] = (attribute){ CKA_VALUE_LEN, &value_len, sizeof value_len };
	keyd_ulong (*derive)(keyd_ulong, mechanism_t *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, mechanism_t *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *))
			l->list->function[F_DERIVE_KEY];
	keyd_ulong rv = derive(session, &m, base_key, t, n, object);
	scrub();
	return rv;
}

keyd_ulong keyd_destroy(keyd_library *l, keyd_ulong session, keyd_ulong object)
{
	keyd_ulong (*destroy)(keyd_ulong, keyd_ulong) =
		(keyd_ulong(*)(keyd_ulong, keyd_ulong))l->list->function[F_DESTROY_OBJECT];
	keyd_ulong rv = destroy(session, object);
	scrub();
	return rv;
}
