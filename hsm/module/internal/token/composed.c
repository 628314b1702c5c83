#include "library.h"

#include <stddef.h>

/* The attributes of a secret that changes inside the token: sensitive, and extractable since
 * it leaves under another key. It may be derived from, and nothing else: tokens give rights
 * that a template leaves out. */
#define COMPOSED \
	{ CKA_CLASS, &class, sizeof class }, \
	{ CKA_KEY_TYPE, &key_type, sizeof key_type }, \
	{ CKA_TOKEN, &keyd_no, 1 }, \
	{ CKA_PRIVATE, &keyd_yes, 1 }, \
	{ CKA_SENSITIVE, &keyd_yes, 1 }, \
	{ CKA_EXTRACTABLE, &keyd_yes, 1 }, \
	{ CKA_ENCRYPT, &keyd_no, 1 }, \
	{ CKA_DECRYPT, &keyd_no, 1 }, \
	{ CKA_SIGN, &keyd_no, 1 }, \
	{ CKA_VERIFY, &keyd_no, 1 }, \
	{ CKA_DERIVE, &keyd_yes, 1 }, \
	{ CKA_WRAP, &keyd_no, 1 }, \
	{ CKA_UNWRAP, &keyd_no, 1 }

keyd_ulong keyd_unwrap_secret(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                              void *in, keyd_ulong in_len, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_GENERIC_SECRET;
	attribute t[] = { COMPOSED };
	mechanism_t m = { mechanism, NULL, 0 };
	return keyd_unwrap_as(l, session, &m, key, in, in_len, t, sizeof t / sizeof t[0], object);
}

keyd_ulong keyd_wrap_secret(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong key,
                            keyd_ulong secret, void *out, keyd_ulong *out_len)
{
	mechanism_t m = { mechanism, NULL, 0 };
	keyd_ulong (*wrap)(keyd_ulong, mechanism_t *, keyd_ulong, keyd_ulong, void *, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, mechanism_t *, keyd_ulong, keyd_ulong, void *, keyd_ulong *))
			l->list->function[F_WRAP_KEY];
	keyd_ulong rv = wrap(session, &m, key, secret, out, out_len);
	keyd_scrub();
	return rv;
}

static keyd_ulong derive_secret(keyd_library *l, keyd_ulong session, mechanism_t *m, keyd_ulong base,
                                keyd_ulong key_type, keyd_ulong size, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY;
	attribute t[] = { COMPOSED, { CKA_VALUE_LEN, &size, sizeof size } };
	keyd_ulong n = sizeof t / sizeof t[0];
	return keyd_derive_as(l, session, m, base, t, size == 0 ? n - 1 : n, object);
}

keyd_ulong keyd_derive_data(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base,
                            void *data, keyd_ulong data_len, keyd_ulong key_type, keyd_ulong size, keyd_ulong *object)
{
	string_data parameter = { data, data_len };
	mechanism_t m = { mechanism, &parameter, sizeof parameter };
	return derive_secret(l, session, &m, base, key_type, size, object);
}

keyd_ulong keyd_derive_number(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base,
                              keyd_ulong number, keyd_ulong key_type, keyd_ulong size, keyd_ulong *object)
{
	mechanism_t m = { mechanism, &number, sizeof number };
	return derive_secret(l, session, &m, base, key_type, size, object);
}

keyd_ulong keyd_generate_secret(keyd_library *l, keyd_ulong session, keyd_ulong size, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_GENERIC_SECRET;
	attribute t[] = { COMPOSED, { CKA_VALUE_LEN, &size, sizeof size } };
	mechanism_t m = { CKM_GENERIC_SECRET_KEY_GEN, NULL, 0 };
	keyd_ulong (*generate)(keyd_ulong, mechanism_t *, attribute *, keyd_ulong, keyd_ulong *) =
		(keyd_ulong(*)(keyd_ulong, mechanism_t *, attribute *, keyd_ulong, keyd_ulong *))
			l->list->function[F_GENERATE_KEY];
	keyd_ulong rv = generate(session, &m, t, sizeof t / sizeof t[0], object);
	keyd_scrub();
	return rv;
}
