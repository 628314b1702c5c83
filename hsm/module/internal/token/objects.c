#include "library.h"

keyd_ulong keyd_value(keyd_library *l, keyd_ulong session, keyd_ulong object, void *out, keyd_ulong *out_len)
{
	attribute t = { CKA_VALUE, out, *out_len };
	keyd_ulong (*get)(keyd_ulong, keyd_ulong, attribute *, keyd_ulong) =
		(keyd_ulong(*)(keyd_ulong, keyd_ulong, attribute *, keyd_ulong))l->list->function[F_GET_ATTRIBUTE_VALUE];
	keyd_ulong rv = get(session, object, &t, 1);
	keyd_scrub();
	if (rv == 0 && (t.len == (keyd_ulong)-1 || (out != NULL && t.len > *out_len)))
		rv = CKR_FUNCTION_FAILED;
	*out_len = rv == 0 ? t.len : 0;
	return rv;
}

keyd_ulong keyd_put_data(keyd_library *l, keyd_ulong session, void *label, keyd_ulong label_len,
                         void *application, keyd_ulong application_len,
                         void *value, keyd_ulong value_len, keyd_ulong *object)
{
	keyd_ulong class = CKO_DATA;
	attribute t[] = {
		{ CKA_CLASS, &class, sizeof class },
		{ CKA_TOKEN, &keyd_yes, 1 },
		{ CKA_PRIVATE, &keyd_yes, 1 },
		{ CKA_MODIFIABLE, &keyd_no, 1 },
		{ CKA_LABEL, label, label_len },
		{ CKA_APPLICATION, application, application_len },
		{ CKA_VALUE, value, value_len },
	};
	return keyd_create(l, session, t, sizeof t / sizeof t[0], object);
}

keyd_ulong keyd_import_master(keyd_library *l, keyd_ulong session, void *label, keyd_ulong label_len,
                              keyd_ulong *flags, unsigned char *on, keyd_ulong flags_len,
                              void *id, keyd_ulong id_len, keyd_ulong allowed, keyd_ulong allowed_len,
                              keyd_ulong *unwrap, unsigned char *unwrap_on, keyd_ulong unwrap_len,
                              void *value, keyd_ulong value_len, keyd_ulong *object)
{
	attribute t[32], inner[KEYD_UNWRAP_TEMPLATE_MAX];
	keyd_ulong class = CKO_SECRET_KEY, key_type = CKK_AES, n = 0;
	if (flags_len > 24 || unwrap_len > KEYD_UNWRAP_TEMPLATE_MAX)
		return CKR_ARGUMENTS_BAD;
	t[n++] = (attribute){ CKA_CLASS, &class, sizeof class };
	t[n++] = (attribute){ CKA_KEY_TYPE, &key_type, sizeof key_type };
	t[n++] = (attribute){ CKA_LABEL, label, label_len };
	t[n++] = (attribute){ CKA_ID, id, id_len };
	if (allowed_len != 0)
		t[n++] = (attribute){ CKA_ALLOWED_MECHANISMS, &allowed, sizeof allowed };
	for (keyd_ulong i = 0; i < flags_len; i++)
		t[n++] = (attribute){ flags[i], &on[i], 1 };
	for (keyd_ulong i = 0; i < unwrap_len; i++)
		inner[i] = (attribute){ unwrap[i], &unwrap_on[i], 1 };
	if (unwrap_len != 0)
		t[n++] = (attribute){ CKA_UNWRAP_TEMPLATE, inner, unwrap_len * sizeof inner[0] };
	t[n++] = (attribute){ CKA_VALUE, value, value_len };
	return keyd_create(l, session, t, n, object);
}

keyd_ulong keyd_unwrap_extractable(keyd_library *l, keyd_ulong session, keyd_ulong mechanism, keyd_ulong wrapping_key,
                                   void *wrapped, keyd_ulong wrapped_len, keyd_ulong key_type, keyd_ulong *object)
{
	attribute t[16];
	keyd_ulong class, n = keyd_describe(t, &class, &key_type, KEYD_EXTRACTABLE);
	mechanism_t m = { mechanism, NULL, 0 };
	return keyd_unwrap_as(l, session, &m, wrapping_key, wrapped, wrapped_len, t, n, object);
}
