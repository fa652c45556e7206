package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// problem is an error of the token's, or of what stands between it and us. It is final: a token that was taken out does not come
// back within seconds, and each try would show it the PIN once more.
func problem(code, remedy, format string, args ...any) error {
	return &kms.Error{Code: code, Class: kms.ErrService, Err: fmt.Errorf(format, args...), Remedy: remedy, Final: true}
}

// A MissingPIN is why a login was not tried: nobody gave a PIN.
type MissingPIN struct {
	Token string // whose PIN it is, and what is special about it, to people
}

func (m *MissingPIN) Error() string { return "no PIN was given" }

// meanings sorts the return values of modules by the codes that key services have too.
var meanings = map[uint]struct{ code, text, remedy string }{
	cryptoki.PINIncorrect:            {kms.CodeDenied, "the token refuses the PIN", checkPIN},
	cryptoki.PINInvalid:              {kms.CodeDenied, "the token refuses the PIN", checkPIN},
	cryptoki.PINLenRange:             {kms.CodeDenied, "the token refuses the PIN for its length", checkPIN},
	cryptoki.FunctionCanceled:        {kms.CodeDenied, "it was cancelled at the token", "confirm at the token: its touch sensor, or its pad"},
	cryptoki.PINLocked:               {kms.CodeUnusable, "the PIN is locked", unlock},
	cryptoki.PINExpired:              {kms.CodeUnusable, "the PIN has expired", "change the PIN with the token's own program"},
	cryptoki.UserPINNotInitialized:   {kms.CodeUnusable, "the token's PIN was never set", "set it: pkcs11-tool --module MODULE --login --login-type so --init-pin"},
	cryptoki.KeyFunctionNotPermitted: {kms.CodeUnusable, "the key may not sign (CKA_SIGN is false)", "make a key that may sign: CKA_SIGN, in pkcs11-tool --usage-sign"},
	cryptoki.KeyTypeInconsistent:     {kms.CodeUnusable, "the key is of another type than its public key", ""},
	cryptoki.KeySizeRange:            {kms.CodeUnusable, "the token does not sign with keys of this size", ""},
	cryptoki.MechanismInvalid:        {kms.CodeUnusable, "the token does not sign in this way", ""},
	cryptoki.TokenNotPresent:         {kms.CodeUnreachable, "the token is gone", "put the token back in"},
	cryptoki.TokenNotRecognized:      {kms.CodeUnreachable, "the token cannot be read", "take the token out and put it back in"},
	cryptoki.DeviceRemoved:           {kms.CodeUnreachable, "the token is gone", "put the token back in"},
	cryptoki.DeviceError:             {kms.CodeService, "the token failed", ""},
}

const (
	unlock   = "unlock it with the security officer's PIN, or the PUK"
	checkPIN = "check the PIN before the next try: each wrong one counts towards its lock"
)

// refused sorts an error of a module.
func refused(err error) error {
	var known *kms.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var e *cryptoki.Error
	if !errors.As(err, &e) {
		return problem(kms.CodeService, "", "%w", err)
	}
	if m, ok := meanings[e.Code]; ok {
		return problem(m.code, m.remedy, "%s: %w", m.text, err)
	}
	return problem(kms.CodeService, "", "the PKCS #11 module refuses: %w", err)
}

// unloadable is the error of a module that does not load or start.
func unloadable(path string, err error) error {
	var e *cryptoki.Error
	switch {
	case errors.Is(err, cryptoki.ErrUnsupported):
		return problem(kms.CodeUnreachable, "", "%w", err)
	case errors.As(err, &e):
		return problem(kms.CodeUnreachable, "see what the module logs; many want a configuration file (SoftHSM: SOFTHSM2_CONF)",
			"starting the PKCS #11 module %s: %w", path, err)
	}
	return problem(kms.CodeUnreachable, "the token's vendor says where its PKCS #11 module is: ?module-path=FILE", "%w", err)
}
