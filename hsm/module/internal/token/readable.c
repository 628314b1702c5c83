#include "library.h"

#include <stddef.h>

keyd_ulong keyd_unwrap_readable(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                                void *wrapped, keyd_ulong wrapped_len, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_GENERIC_SECRET;
	/* Private, so that a token that enciphers private objects keeps no clear copy. */
	attribute t[] = {
		{ CKA_CLASS, &class, sizeof class },
		{ CKA_KEY_TYPE, &key_type, sizeof key_type },
		{ CKA_TOKEN, &keyd_no, 1 },
		{ CKA_PRIVATE, &keyd_yes, 1 },
		{ CKA_SENSITIVE, &keyd_no, 1 },
		{ CKA_EXTRACTABLE, &keyd_yes, 1 },
		{ CKA_ENCRYPT, &keyd_no, 1 },
		{ CKA_DECRYPT, &keyd_no, 1 },
		{ CKA_SIGN, &keyd_no, 1 },
		{ CKA_VERIFY, &keyd_no, 1 },
		{ CKA_DERIVE, &keyd_no, 1 },
		{ CKA_WRAP, &keyd_no, 1 },
		{ CKA_UNWRAP, &keyd_no, 1 },
	};
	mechanism_t m = { mechanism, NULL, 0 };
	return keyd_unwrap_as(l, session, &m, wrapping_key, wrapped, wrapped_len, t, sizeof t / sizeof t[0], object);
}

keyd_ulong keyd_derive_readable(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong base_key,
                                void *data, keyd_ulong data_len, keyd_ulong size, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_GENERIC_SECRET;
	attribute t[] = {
		{ CKA_CLASS, &class, sizeof class },
		{ CKA_KEY_TYPE, &key_type, sizeof key_type },
		{ CKA_VALUE_LEN, &size, sizeof size },
		{ CKA_TOKEN, &keyd_no, 1 },
		{ CKA_PRIVATE, &keyd_yes, 1 },
		{ CKA_SENSITIVE, &keyd_no, 1 },
		{ CKA_EXTRACTABLE, &keyd_yes, 1 },
		{ CKA_ENCRYPT, &keyd_no, 1 },
		{ CKA_DECRYPT, &keyd_no, 1 },
		{ CKA_SIGN, &keyd_no, 1 },
		{ CKA_VERIFY, &keyd_no, 1 },
		{ CKA_DERIVE, &keyd_no, 1 },
		{ CKA_WRAP, &keyd_no, 1 },
		{ CKA_UNWRAP, &keyd_no, 1 },
	};
	/* CK_KEY_DERIVATION_STRING_DATA */
	struct {
		void *data;
		keyd_ulong len;
	} parameter = { data, data_len };
	mechanism_t m = { mechanism, &parameter, sizeof parameter };
	return keyd_derive_as(l, session, &m, base_key, t, sizeof t / sizeof t[0], object);
}
