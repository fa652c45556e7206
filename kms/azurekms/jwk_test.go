package azurekms

import (
	"encoding/base64"
	"testing"
)

// unpad removes leading zeros of a base64url number, pad adds one.
func unpad(t *testing.T, x string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(x)
	if err != nil || len(b) == 0 || b[0] != 0 {
		t.Fatalf("%q has no leading zero: %v", x, err)
	}
	for b[0] == 0 {
		b = b[1:]
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func pad(t *testing.T, x string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(x)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(append([]byte{0}, b...))
}
