#include "library.h"

#include <stddef.h>

keyd_ulong keyd_unwrap_readable(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                                void *wrapped, keyd_ulong wrapped_len, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_GENERIC_SECRET;
	attribute t[] = {
		{ CKA_CLASS, &class, sizeof class },
		{ CKA_KEY_TYPE, &key_type, sizeof key_type },
		READABLE_ONLY,
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
		READABLE_ONLY,
	};
	string_data parameter = { data, data_len };
	mechanism_t m = { mechanism, &parameter, sizeof parameter };
	return keyd_derive_as(l, session, &m, base_key, t, sizeof t / sizeof t[0], object);
}
