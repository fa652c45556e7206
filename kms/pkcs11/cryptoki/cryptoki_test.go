package cryptoki

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

// The sizes and places that a C compiler gives the structures of PKCS #11 on 64-bit Unix.
func TestLayout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"CK_C_INITIALIZE_ARGS", unsafe.Sizeof(initializeArgs{}), 48},
		{"CK_C_INITIALIZE_ARGS.flags", unsafe.Offsetof(initializeArgs{}.flags), 32},
		{"CK_INFO", unsafe.Sizeof(info{}), 88},
		{"CK_INFO.libraryDescription", unsafe.Offsetof(info{}.description), 48},
		{"CK_INFO.libraryVersion", unsafe.Offsetof(info{}.version), 80},
		{"CK_SLOT_INFO", unsafe.Sizeof(slotInfo{}), 112},
		{"CK_TOKEN_INFO", unsafe.Sizeof(tokenInfo{}), 208},
		{"CK_TOKEN_INFO.flags", unsafe.Offsetof(tokenInfo{}.flags), 96},
		{"CK_MECHANISM_INFO", unsafe.Sizeof(mechanismInfo{}), 24},
		{"CK_ATTRIBUTE", unsafe.Sizeof(attribute{}), 24},
		{"CK_MECHANISM", unsafe.Sizeof(mechanism{}), 24},
		{"CK_RSA_PKCS_PSS_PARAMS", unsafe.Sizeof(PSS{}), 24},
		{"CK_FUNCTION_LIST", unsafe.Sizeof(functionList{}), 552},
		{"CK_FUNCTION_LIST.C_Initialize", unsafe.Offsetof(functionList{}.fn), 8},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.name, c.got, c.want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"release   ": "release", "release\x00\x00junk": "release", "a b ": "a b", "    ": "", "\xff\xfe x ": "? x"} {
		if got := text([]byte(in)); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for code, want := range map[uint]string{0xA0: "CKR_PIN_INCORRECT", 0x80000001: "CKR_VENDOR_DEFINED+0x1", 0x3FF: "CKR 0x3ff", DeviceError: "CKR_DEVICE_ERROR"} {
		if got := Name(code); got != want {
			t.Errorf("%#x is %s, want %s", code, got, want)
		}
	}
	for code, name := range names {
		if !strings.HasPrefix(name, "CKR_") || strings.ToUpper(name) != name {
			t.Errorf("%#x is %s", code, name)
		}
	}
	var e *Error
	if err := check("C_Login", PINLocked); !errors.As(err, &e) || err.Error() != "C_Login: CKR_PIN_LOCKED" {
		t.Errorf("%v", err)
	}
	if err := check("C_Login", 0); err != nil {
		t.Error(err)
	}
}
