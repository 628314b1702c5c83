/* A PKCS#11 library that loads another (KEYD_RECORDED) and writes down what crosses the interface
 * (KEYD_RECORD): a line for each call, with handles and buffers, those included that parameters of
 * mechanisms point to. A call that would carry something past it unwritten is refused. For tests. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong_t;

/* CK_FUNCTION_LIST: a version, then 68 functions in the order of the standard. */
typedef struct {
	unsigned char version[2];
	void (*function[68])(void);
} function_list;

/* CK_ATTRIBUTE, and CK_MECHANISM. */
typedef struct {
	ulong_t type;
	void *value;
	ulong_t len;
} item;

/* CK_KEY_DERIVATION_STRING_DATA */
typedef struct {
	unsigned char *data;
	ulong_t len;
} string_data;

/* CK_ECDH1_DERIVE_PARAMS */
typedef struct {
	ulong_t kdf, shared_len;
	unsigned char *shared;
	ulong_t public_len;
	unsigned char *public;
} ecdh1;

enum {
	CKR_OK = 0,
	CKR_GENERAL_ERROR = 5,
	CKR_FUNCTION_NOT_SUPPORTED = 0x54,
	CKM_CONCATENATE_BASE_AND_DATA = 0x362,
	CKM_CONCATENATE_DATA_AND_BASE = 0x363,
	CKM_XOR_BASE_AND_DATA = 0x364,
	CKM_ECDH1_DERIVE = 0x1050,
	CKM_DES3_ECB_ENCRYPT_DATA = 0x1102,
	CKM_AES_ECB_ENCRYPT_DATA = 0x1104
};

static function_list *real;
static function_list recording;
static FILE *record;
static pthread_mutex_t one_line = PTHREAD_MUTEX_INITIALIZER;

static void begin(const char *name, ulong_t rv, ulong_t session)
{
	pthread_mutex_lock(&one_line);
	fprintf(record, "%s rv=%lx session=%lx", name, rv, session);
}

static void end(void)
{
	fputc('\n', record);
	fflush(record);
	pthread_mutex_unlock(&one_line);
}

static void number(const char *name, ulong_t n) { fprintf(record, " %s=%lx", name, n); }

static void hex(const unsigned char *p, ulong_t n)
{
	for (ulong_t i = 0; i < n; i++)
		fprintf(record, "%02x", p[i]);
}

static void bytes(const char *name, const void *p, ulong_t n)
{
	if (p == NULL)
		return;
	fprintf(record, " %s=", name);
	hex(p, n);
}

static void attributes(const char *name, const item *list, ulong_t n)
{
	fprintf(record, " %s=", name);
	for (ulong_t i = 0; i < n; i++) {
		fprintf(record, "%s%lx:", i > 0 ? "," : "", list[i].type);
		if (list[i].value != NULL && list[i].len != (ulong_t)-1)
			hex(list[i].value, list[i].len);
	}
}

static void mechanism(const item *m)
{
	number("mechanism", m->type);
	switch (m->type) {
	case CKM_CONCATENATE_BASE_AND_DATA:
	case CKM_CONCATENATE_DATA_AND_BASE:
	case CKM_XOR_BASE_AND_DATA:
	case CKM_DES3_ECB_ENCRYPT_DATA:
	case CKM_AES_ECB_ENCRYPT_DATA: {
		const string_data *p = m->value;
		bytes("data", p->data, p->len);
		break;
	}
	case CKM_ECDH1_DERIVE: {
		const ecdh1 *p = m->value;
		number("kdf", p->kdf);
		bytes("shared", p->shared, p->shared_len);
		bytes("data", p->public, p->public_len);
		break;
	}
	default:
		bytes("parameter", m->value, m->len);
	}
}

/* kept is a copy of what a call may overwrite. */
static unsigned char *kept(const void *p, ulong_t n)
{
	unsigned char *copy = malloc(n > 0 ? n : 1);
	if (copy == NULL)
		abort();
	if (p != NULL)
		memcpy(copy, p, n);
	return copy;
}

static ulong_t create_object(ulong_t s, item *t, ulong_t n, ulong_t *object)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, ulong_t, ulong_t *))real->function[20])(s, t, n, object);
	begin("C_CreateObject", rv, s);
	attributes("template", t, n);
	if (rv == CKR_OK)
		number("object", *object);
	end();
	return rv;
}

static ulong_t destroy_object(ulong_t s, ulong_t object)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, ulong_t))real->function[22])(s, object);
	begin("C_DestroyObject", rv, s);
	number("object", object);
	end();
	return rv;
}

static ulong_t get_attribute_value(ulong_t s, ulong_t object, item *t, ulong_t n)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, ulong_t, item *, ulong_t))real->function[24])(s, object, t, n);
	begin("C_GetAttributeValue", rv, s);
	number("object", object);
	attributes("out", t, n);
	end();
	return rv;
}

static ulong_t init(int function, const char *name, ulong_t s, item *m, ulong_t key)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, ulong_t))real->function[function])(s, m, key);
	begin(name, rv, s);
	if (m != NULL)
		mechanism(m);
	number("key", key);
	end();
	return rv;
}

static ulong_t use(int function, const char *name, ulong_t s, void *in, ulong_t in_len, void *out, ulong_t *out_len)
{
	unsigned char *before = kept(in, in_len);
	ulong_t rv = ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t *))real->function[function])(s, in, in_len, out, out_len);
	begin(name, rv, s);
	bytes("in", before, in_len);
	if (rv == CKR_OK)
		bytes("out", out, *out_len);
	end();
	free(before);
	return rv;
}

static ulong_t encrypt_init(ulong_t s, item *m, ulong_t key) { return init(29, "C_EncryptInit", s, m, key); }
static ulong_t decrypt_init(ulong_t s, item *m, ulong_t key) { return init(33, "C_DecryptInit", s, m, key); }
static ulong_t sign_init(ulong_t s, item *m, ulong_t key) { return init(42, "C_SignInit", s, m, key); }
static ulong_t verify_init(ulong_t s, item *m, ulong_t key) { return init(48, "C_VerifyInit", s, m, key); }
static ulong_t encrypt(ulong_t s, void *in, ulong_t n, void *out, ulong_t *m) { return use(30, "C_Encrypt", s, in, n, out, m); }
static ulong_t decrypt(ulong_t s, void *in, ulong_t n, void *out, ulong_t *m) { return use(34, "C_Decrypt", s, in, n, out, m); }
static ulong_t sign(ulong_t s, void *in, ulong_t n, void *out, ulong_t *m) { return use(43, "C_Sign", s, in, n, out, m); }

static ulong_t verify(ulong_t s, void *in, ulong_t n, void *signature, ulong_t m)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t))real->function[49])(s, in, n, signature, m);
	begin("C_Verify", rv, s);
	bytes("in", in, n);
	bytes("signature", signature, m);
	end();
	return rv;
}

static ulong_t generate_key(ulong_t s, item *m, item *t, ulong_t n, ulong_t *object)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, item *, ulong_t, ulong_t *))real->function[58])(s, m, t, n, object);
	begin("C_GenerateKey", rv, s);
	mechanism(m);
	attributes("template", t, n);
	if (rv == CKR_OK)
		number("object", *object);
	end();
	return rv;
}

static ulong_t generate_key_pair(ulong_t s, item *m, item *t, ulong_t n, item *u, ulong_t o, ulong_t *public, ulong_t *private)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, item *, ulong_t, item *, ulong_t, ulong_t *, ulong_t *))real->function[59])(s, m, t, n, u, o, public, private);
	begin("C_GenerateKeyPair", rv, s);
	mechanism(m);
	attributes("template", t, n);
	attributes("private_template", u, o);
	if (rv == CKR_OK) {
		number("object", *public);
		number("private", *private);
	}
	end();
	return rv;
}

static ulong_t wrap_key(ulong_t s, item *m, ulong_t key, ulong_t object, void *out, ulong_t *n)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, ulong_t, ulong_t, void *, ulong_t *))real->function[60])(s, m, key, object, out, n);
	begin("C_WrapKey", rv, s);
	mechanism(m);
	number("key", key);
	number("object", object);
	if (rv == CKR_OK)
		bytes("out", out, *n);
	end();
	return rv;
}

static ulong_t unwrap_key(ulong_t s, item *m, ulong_t key, void *in, ulong_t in_len, item *t, ulong_t n, ulong_t *object)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, ulong_t, void *, ulong_t, item *, ulong_t, ulong_t *))real->function[61])(s, m, key, in, in_len, t, n, object);
	begin("C_UnwrapKey", rv, s);
	mechanism(m);
	number("key", key);
	bytes("in", in, in_len);
	attributes("template", t, n);
	if (rv == CKR_OK)
		number("object", *object);
	end();
	return rv;
}

static ulong_t derive_key(ulong_t s, item *m, ulong_t base, item *t, ulong_t n, ulong_t *object)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, item *, ulong_t, item *, ulong_t, ulong_t *))real->function[62])(s, m, base, t, n, object);
	begin("C_DeriveKey", rv, s);
	mechanism(m);
	number("key", base);
	attributes("template", t, n);
	if (rv == CKR_OK)
		number("object", *object);
	end();
	return rv;
}

static ulong_t generate_random(ulong_t s, void *out, ulong_t n)
{
	ulong_t rv = ((ulong_t (*)(ulong_t, void *, ulong_t))real->function[64])(s, out, n);
	begin("C_GenerateRandom", rv, s);
	if (rv == CKR_OK)
		bytes("out", out, n);
	end();
	return rv;
}

static ulong_t close_session(ulong_t s)
{
	ulong_t rv = ((ulong_t (*)(ulong_t))real->function[13])(s);
	begin("C_CloseSession", rv, s);
	end();
	return rv;
}

static ulong_t refused(void)
{
	begin("refused", CKR_FUNCTION_NOT_SUPPORTED, 0);
	end();
	return CKR_FUNCTION_NOT_SUPPORTED;
}

/* Functions that carry no key, no PIN block and no value of an object: they pass as they are. So do
 * those with the token's own PIN. */
static const int harmless[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 18, 19, 23, 26, 27, 28, 65, 66, 67};

static const struct {
	int at;
	void (*function)(void);
} recorded[] = {
	{13, (void (*)(void))close_session},
	{20, (void (*)(void))create_object},
	{22, (void (*)(void))destroy_object},
	{24, (void (*)(void))get_attribute_value},
	{29, (void (*)(void))encrypt_init},
	{30, (void (*)(void))encrypt},
	{33, (void (*)(void))decrypt_init},
	{34, (void (*)(void))decrypt},
	{42, (void (*)(void))sign_init},
	{43, (void (*)(void))sign},
	{48, (void (*)(void))verify_init},
	{49, (void (*)(void))verify},
	{58, (void (*)(void))generate_key},
	{59, (void (*)(void))generate_key_pair},
	{60, (void (*)(void))wrap_key},
	{61, (void (*)(void))unwrap_key},
	{62, (void (*)(void))derive_key},
	{64, (void (*)(void))generate_random},
};

ulong_t C_GetFunctionList(function_list **list)
{
	const char *library = getenv("KEYD_RECORDED"), *path = getenv("KEYD_RECORD");
	if (real == NULL) {
		if (library == NULL || path == NULL || (record = fopen(path, "a")) == NULL)
			return CKR_GENERAL_ERROR;
		void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
		ulong_t (*get)(function_list **) = handle != NULL ? (ulong_t (*)(function_list **))dlsym(handle, "C_GetFunctionList") : NULL;
		if (get == NULL || get(&real) != CKR_OK)
			return CKR_GENERAL_ERROR;
		memcpy(recording.version, real->version, sizeof recording.version);
		for (int i = 0; i < 68; i++)
			recording.function[i] = (void (*)(void))refused;
		for (unsigned i = 0; i < sizeof harmless / sizeof *harmless; i++)
			recording.function[harmless[i]] = real->function[harmless[i]];
		for (unsigned i = 0; i < sizeof recorded / sizeof *recorded; i++)
			recording.function[recorded[i].at] = recorded[i].function;
	}
	*list = &recording;
	return CKR_OK;
}
