#include "library.h"

#include <stddef.h>

keyd_ulong keyd_sign_digest(keyd_library *l, keyd_ulong session, keyd_ulong mechanism,
                            void *parameter, keyd_ulong parameter_len, keyd_ulong key,
                            void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len)
{
	mechanism_t m = { mechanism, parameter, parameter_len };
	return keyd_one_part(l, F_SIGN_INIT, F_SIGN, session, m, key, in, in_len, out, out_len);
}

/* CK_RSA_PKCS_OAEP_PARAMS */
typedef struct {
	keyd_ulong hash, mgf, source;
	void *source_data;
	keyd_ulong source_data_len;
} oaep;

keyd_ulong keyd_decrypt_oaep(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong hash, keyd_ulong mgf,
                             keyd_ulong key, void *in, keyd_ulong in_len, void *out, keyd_ulong *out_len)
{
	oaep parameter = { hash, mgf, 1 /* CKZ_DATA_SPECIFIED */, NULL, 0 };
	mechanism_t m = { mechanism, &parameter, sizeof parameter };
	keyd_ulong room = *out_len;
	keyd_ulong rv = keyd_one_part(l, F_DECRYPT_INIT, F_DECRYPT, session, m, key, in, in_len, out, out_len);
	if (rv == 0 && *out_len > room)
		rv = CKR_FUNCTION_FAILED;
	return rv;
}

/* CK_ECDH1_DERIVE_PARAMS */
typedef struct {
	keyd_ulong kdf, shared_len;
	void *shared;
	keyd_ulong public_len;
	void *public;
} ecdh1;

keyd_ulong keyd_ecdh(keyd_library *l, keyd_ulong session, keyd_ulong key, void *peer, keyd_ulong peer_len,
                     keyd_ulong size, keyd_ulong *object)
{
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_GENERIC_SECRET;
	attribute t[] = {
		{ CKA_CLASS, &class, sizeof class },
		{ CKA_KEY_TYPE, &key_type, sizeof key_type },
		{ CKA_VALUE_LEN, &size, sizeof size },
		READABLE_ONLY,
	};
	ecdh1 parameter = { CKD_NULL, 0, NULL, peer_len, peer };
	mechanism_t m = { CKM_ECDH1_DERIVE, &parameter, sizeof parameter };
	return keyd_derive_as(l, session, &m, key, t, sizeof t / sizeof t[0], object);
}

keyd_ulong keyd_agree(keyd_library *l, keyd_ulong session, keyd_ulong key, void *peer, keyd_ulong peer_len,
                      keyd_ulong size, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, key_type = CKK_AES, n = keyd_describe(t, &class, &key_type, KEYD_WRAP);
	t[n++] = (attribute){ CKA_VALUE_LEN, &size, sizeof size };
	ecdh1 parameter = { CKD_NULL, 0, NULL, peer_len, peer };
	mechanism_t m = { CKM_ECDH1_DERIVE, &parameter, sizeof parameter };
	return keyd_derive_as(l, session, &m, key, t, n, object);
}
