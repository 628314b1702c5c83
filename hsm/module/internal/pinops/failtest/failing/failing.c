/* A PKCS#11 library that loads another (KEYD_FAILING) and has one call fail: the file KEYD_FAIL is mapped, and has
 * three numbers of 8 bytes: how many calls until then (0: none fails), what it returns, and
 * the place in the function list of the call that failed. The call is not carried out. For tests. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*function)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);

/* CK_FUNCTION_LIST: a version, then 68 functions in the order of the standard. */
typedef struct {
	unsigned char version[2];
	function function[68];
} function_list;

static function_list *real;
static function_list failing;
static struct {
	ulong_t countdown, code, failed;
} *plan;

/* No function has more than 8 arguments, all of which are numbers and pointers. */
#define CALL(n) \
	static ulong_t call##n(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) \
	{ \
		if (plan->countdown != 0 && --plan->countdown == 0) { \
			plan->failed = n; \
			return plan->code; \
		} \
		return real->function[n](a, b, c, d, e, f, g, h); \
	}
#define TEN(F, t) F(t##0) F(t##1) F(t##2) F(t##3) F(t##4) F(t##5) F(t##6) F(t##7) F(t##8) F(t##9)
#define ALL(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) TEN(F, 1) TEN(F, 2) TEN(F, 3) TEN(F, 4) TEN(F, 5) \
	F(60) F(61) F(62) F(63) F(64) F(65) F(66) F(67)
ALL(CALL)
#define PLACE(n) failing.function[n] = call##n;

ulong_t C_GetFunctionList(function_list **list)
{
	void *handle = dlopen(getenv("KEYD_FAILING"), RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL)
		return 5;
	ulong_t (*get)(function_list **) = (ulong_t(*)(function_list **))dlsym(handle, "C_GetFunctionList");
	int fd = open(getenv("KEYD_FAIL"), O_RDWR);
	if (get == NULL || fd < 0 || get(&real) != 0)
		return 5;
	plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (plan == MAP_FAILED)
		return 5;
	memcpy(failing.version, real->version, sizeof failing.version);
	ALL(PLACE)
	*list = &failing;
	return 0;
}
