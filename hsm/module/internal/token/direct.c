#include "library.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* The stack below this frame is where the library worked. It is overwritten with
 * zeros through a volatile pointer, which no compiler removes. */
__attribute__((noinline)) void keyd_scrub(void)
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

keyd_ulong keyd_initialize(keyd_library *l, char *parameters)
{
	/* CK_C_INITIALIZE_ARGS. Where NSS finds parameters it looks at one more pointer. */
	struct {
		void *mutex[4];
		keyd_ulong flags;
		void *parameters, *reserved;
	} args = { { NULL }, 2 /* CKF_OS_LOCKING_OK */, parameters, NULL };
	keyd_ulong (*initialize)(void *) = (keyd_ulong(*)(void *))l->list->function[F_INITIALIZE];
	return initialize(&args);
}

keyd_ulong keyd_login(keyd_library *l, keyd_ulong session, keyd_ulong user, void *pin, keyd_ulong pin_len)
{
	keyd_ulong (*login)(keyd_ulong, keyd_ulong, void *, keyd_ulong) =
		(keyd_ulong(*)(keyd_ulong, keyd_ulong, void *, keyd_ulong))l->list->function[F_LOGIN];
	keyd_ulong rv = login(session, user, pin, pin_len);
	keyd_scrub();
	return rv;
}

typedef keyd_ulong (*init_function)(keyd_ulong, mechanism_t *, keyd_ulong);
typedef keyd_ulong (*data_function)(keyd_ulong, void *, keyd_ulong, void *, keyd_ulong *);

keyd_ulong keyd_one_part(keyd_library *l, int init, int call, keyd_ulong session, mechanism_t m,
                         keyd_ulong key, void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len)
{
	keyd_ulong rv = ((init_function)l->list->function[init])(session, &m, key);
	if (rv == 0)
		rv = ((data_function)l->list->function[call])(session, in, in_len, out, out_len);
	keyd_scrub();
	return rv;
}

keyd_ulong keyd_encrypt(keyd_library *l, keyd_ulong session, keyd_ulong mechanism,
                        void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                        void *in, keyd_ulong in_len, void *out)
{
	mechanism_t m = { mechanism, parameter, parameter_len };
	keyd_ulong out_len = in_len;
	keyd_ulong rv = keyd_one_part(l, F_ENCRYPT_INIT, F_ENCRYPT, session, m, key, in, in_len, out, &out_len);
	return rv == 0 && out_len != in_len ? CKR_FUNCTION_FAILED : rv;
}

keyd_ulong keyd_decrypt(keyd_library *l, keyd_ulong session, keyd_ulong mechanism,
                        void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                        void *in, keyd_ulong in_len, void *out)
{
	mechanism_t m = { mechanism, parameter, parameter_len };
	keyd_ulong out_len = in_len;
	keyd_ulong rv = keyd_one_part(l, F_DECRYPT_INIT, F_DECRYPT, session, m, key, in, in_len, out, &out_len);
	return rv == 0 && out_len != in_len ? CKR_FUNCTION_FAILED : rv;
}

keyd_ulong keyd_sign(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                     void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len)
{
	mechanism_t m = { mechanism, NULL, 0 };
	return keyd_one_part(l, F_SIGN_INIT, F_SIGN, session, m, key, in, in_len, out, out_len);
}

unsigned char keyd_yes = 1, keyd_no = 0;

/* Every right is set, so that no token's default adds one. */
keyd_ulong keyd_describe(attribute *t, keyd_ulong *class, keyd_ulong *key_type, int rights)
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
		{ CKA_VERIFY, 0 }, /* keyd verifies by making a MAC; tokens give the right if it is left out */
		{ CKA_DERIVE, rights & KEYD_DERIVE },
		{ CKA_WRAP, rights & KEYD_WRAP },
		{ CKA_UNWRAP, rights & KEYD_UNWRAP },
	};
	keyd_ulong n = 0;
	*class = CKO_SECRET_KEY;
	t[n++] = (attribute){ CKA_CLASS, class, sizeof *class };
	t[n++] = (attribute){ CKA_KEY_TYPE, key_type, sizeof *key_type };
	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
		t[n++] = (attribute){ flags[i].type, flags[i].on ? &keyd_yes : &keyd_no, 1 };
	return n;
}

keyd_ulong keyd_create(keyd_library *l, keyd_ulong session, attribute *t, keyd_ulong n, keyd_ulong *object)
{
	keyd_ulong (*create)(keyd_ulong, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, attribute *, keyd_ulong, keyd_ulong *))l->list->function[F_CREATE_OBJECT];
	keyd_ulong rv = create(session, t, n, object);
	keyd_scrub();
	return rv;
}

keyd_ulong keyd_import(keyd_library *l, keyd_ulong session, keyd_ulong key_type, int rights,
                       void *value, keyd_ulong value_len, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = keyd_describe(t, &class, &key_type, rights);
	t[n++] = (attribute){ CKA_VALUE, value, value_len };
	return keyd_create(l, session, t, n, object);
}

keyd_ulong keyd_unwrap_as(keyd_library *l, keyd_ulong session, mechanism_t *m, keyd_ulong wrapping_key,
                          void *wrapped, keyd_ulong wrapped_len, attribute *t, keyd_ulong n, keyd_ulong *object)
{
	keyd_ulong (*unwrap)(keyd_ulong, mechanism_t *, keyd_ulong, void *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, mechanism_t *, keyd_ulong, void *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *))
			l->list->function[F_UNWRAP_KEY];
	keyd_ulong rv = unwrap(session, m, wrapping_key, wrapped, wrapped_len, t, n, object);
	keyd_scrub();
	return rv;
}

keyd_ulong keyd_unwrap(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                       void *wrapped, keyd_ulong wrapped_len, keyd_ulong key_type, keyd_ulong value_len,
                       int rights, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = keyd_describe(t, &class, &key_type, rights & ~KEYD_EXTRACTABLE);
	mechanism_t m = { mechanism, NULL, 0 };
	if (value_len != 0)
		t[n++] = (attribute){ CKA_VALUE_LEN, &value_len, sizeof value_len };
	return keyd_unwrap_as(l, session, &m, wrapping_key, wrapped, wrapped_len, t, n, object);
}

keyd_ulong keyd_derive_as(keyd_library *l, keyd_ulong session, mechanism_t *m, keyd_ulong base_key,
                          attribute *t, keyd_ulong n, keyd_ulong *object)
{
	keyd_ulong (*derive)(keyd_ulong, mechanism_t *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, mechanism_t *, keyd_ulong, attribute *, keyd_ulong, keyd_ulong *))
			l->list->function[F_DERIVE_KEY];
	keyd_ulong rv = derive(session, m, base_key, t, n, object);
	keyd_scrub();
	return rv;
}

keyd_ulong keyd_derive(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base_key,
                       void *data, keyd_ulong data_len, keyd_ulong key_type, keyd_ulong value_len,
                       int rights, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = keyd_describe(t, &class, &key_type, rights & ~KEYD_EXTRACTABLE);
	string_data parameter = { data, data_len };
	mechanism_t m = { mechanism, &parameter, sizeof parameter };
	if (value_len != 0)
		t[n++] = (attribute){ CKA_VALUE_LEN, &value_len, sizeof value_len };
	return keyd_derive_as(l, session, &m, base_key, t, n, object);
}

keyd_ulong keyd_destroy(keyd_library *l, keyd_ulong session, keyd_ulong object)
{
	keyd_ulong (*destroy)(keyd_ulong, keyd_ulong) =
		(keyd_ulong(*)(keyd_ulong, keyd_ulong))l->list->function[F_DESTROY_OBJECT];
	keyd_ulong rv = destroy(session, object);
	keyd_scrub();
	return rv;
}
