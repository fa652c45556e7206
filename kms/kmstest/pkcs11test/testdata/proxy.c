/* A PKCS #11 module around the one that PROXY_MODULE names. It writes a line to PROXY_LOG for each call that tests count, and has
 * the faults of the list PROXY_FAULTS (",a,b,"):
 *   locked final      flags of the PIN
 *   pinpad            protected authentication path; a NULL PIN is PROXY_PIN
 *   login=N sign=N initialize=N  the function returns N and does nothing
 *   corrupt           the signature is wrong
 *   short             ECDSA signatures of a zero in front of r and s come without it
 *   crash             C_Sign ends the process
 *   noise             C_Initialize prints
 *   nolock            C_Initialize cannot lock
 *   nopss             there is no CKM_RSA_PKCS_PSS
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong_;
struct list { unsigned char version[2]; void *fn[68]; };
static struct list *real, mine;

static int fault(const char *name) {
	char want[64];
	const char *all = getenv("PROXY_FAULTS");
	snprintf(want, sizeof want, ",%s,", name);
	return all && strstr(all, want) != NULL;
}

static int returns(const char *name, ulong_ *code) {
	char want[64];
	const char *all = getenv("PROXY_FAULTS"), *at;
	snprintf(want, sizeof want, ",%s=", name);
	if (!all || !(at = strstr(all, want)))
		return 0;
	*code = strtoul(at + strlen(want), NULL, 0);
	return 1;
}

static void note(const char *call) {
	FILE *f = getenv("PROXY_LOG") ? fopen(getenv("PROXY_LOG"), "a") : NULL;
	if (f) {
		fprintf(f, "%s\n", call);
		fclose(f);
	}
}

static ulong_ initialize(void *args) {
	ulong_ code;
	if (fault("noise")) {
		printf("a word on stdout\n");
		fflush(stdout);
		fprintf(stderr, "a word on stderr\n");
	}
	if (returns("initialize", &code))
		return code;
	note(args ? "C_Initialize locking" : "C_Initialize alone");
	if (args && fault("nolock"))
		return 0x0A;
	return ((ulong_(*)(void *))real->fn[0])(args);
}

static ulong_ finalize(void *reserved) {
	note("C_Finalize");
	return ((ulong_(*)(void *))real->fn[1])(reserved);
}

static ulong_ token_info(ulong_ slot, unsigned char *info) {
	ulong_ code = ((ulong_(*)(ulong_, void *))real->fn[6])(slot, info), *flags = (ulong_ *)(info + 96);
	if (code != 0)
		return code;
	if (fault("locked"))
		*flags |= 1UL << 18;
	if (fault("final"))
		*flags |= 1UL << 17;
	if (fault("pinpad"))
		*flags |= 1UL << 8;
	return code;
}

static ulong_ mechanism_info(ulong_ slot, ulong_ mechanism, void *info) {
	if (mechanism == 0x0D && fault("nopss"))
		return 0x70;
	return ((ulong_(*)(ulong_, ulong_, void *))real->fn[8])(slot, mechanism, info);
}

static ulong_ login(ulong_ session, ulong_ user, unsigned char *pin, ulong_ n) {
	ulong_ code;
	char call[32];
	snprintf(call, sizeof call, "C_Login %lu%s", user, pin ? "" : " pad");
	note(call);
	if (returns("login", &code))
		return code;
	if (!pin && fault("pinpad") && getenv("PROXY_PIN")) {
		pin = (unsigned char *)getenv("PROXY_PIN");
		n = strlen((char *)pin);
	}
	return ((ulong_(*)(ulong_, ulong_, void *, ulong_))real->fn[18])(session, user, pin, n);
}

static ulong_ logout(ulong_ session) {
	note("C_Logout");
	return ((ulong_(*)(ulong_))real->fn[19])(session);
}

static ulong_ sign(ulong_ session, void *data, ulong_ n, unsigned char *sig, ulong_ *m) {
	ulong_ code, half;
	note("C_Sign");
	if (returns("sign", &code))
		return code;
	if (fault("crash"))
		abort();
	code = ((ulong_(*)(ulong_, void *, ulong_, void *, ulong_ *))real->fn[43])(session, data, n, sig, m);
	if (code == 0 && fault("corrupt"))
		sig[*m / 2] ^= 1;
	if (code == 0 && fault("short")) {
		half = *m / 2;
		if (sig[0] == 0 && sig[half] == 0) {
			memmove(sig, sig + 1, half - 1);
			memmove(sig + half - 1, sig + half + 1, half - 1);
			*m -= 2;
			note("C_Sign short");
		}
	}
	return code;
}

ulong_ C_GetFunctionList(struct list **out) {
	if (!real) {
		void *module = dlopen(getenv("PROXY_MODULE"), RTLD_NOW);
		ulong_ (*get)(struct list **) = module ? (ulong_(*)(struct list **))dlsym(module, "C_GetFunctionList") : NULL;
		if (!get || get(&real) != 0)
			return 5;
		mine = *real;
		mine.fn[0] = (void *)initialize;
		mine.fn[1] = (void *)finalize;
		mine.fn[6] = (void *)token_info;
		mine.fn[8] = (void *)mechanism_info;
		mine.fn[18] = (void *)login;
		mine.fn[19] = (void *)logout;
		mine.fn[43] = (void *)sign;
	}
	*out = &mine;
	return 0;
}
