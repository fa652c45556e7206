package azurekms

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/imprint-oci/imprint/kms"
)

// An action is what the vault is asked to do, by the name of its permission in access policies.
type action string

const (
	keysGet         action = "keys/get"
	keysSign        action = "keys/sign"
	certificatesGet action = "certificates/get"
	secretsGet      action = "secrets/get"
)

// role is the least built-in role that allows it.
func (v *vault) role(a action) string {
	switch {
	case a == certificatesGet:
		return "Key Vault Reader"
	case a == secretsGet:
		return "Key Vault Secrets User"
	case v.hsm:
		return "Managed HSM Crypto User"
	}
	return "Key Vault Crypto User"
}

// noun is what az calls what the action is done to. The secret behind a certificate is changed through the certificate.
func (a action) noun() string {
	if a == keysGet || a == keysSign {
		return "key"
	}
	return "certificate"
}

// explain says in one line why a call failed.
func (v *vault) explain(err error, w *watch, a action) error {
	var known *kms.Error
	var refused *azcore.ResponseError
	host, broken := w.failed()
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return v.refusal(refused, a)
	case broken != nil:
		return unreachable(host, broken)
	case a == secretsGet: // what cannot be read may be a private key
		return kms.Service("%s at %s: the answer cannot be read", a, v.host)
	}
	return kms.Service("%s at %s: the answer cannot be read: %s", a, v.host, kms.Text(err.Error()))
}

func unreachable(host string, err error) error {
	return &kms.Error{Code: kms.CodeUnreachable, Class: kms.ErrService, Err: fmt.Errorf("asking %s: %w", host, err)}
}

// An answer is the body of an error (Key Vault REST API, "Common HTTP status codes"). Members are matched in any case: services
// write innererror and innerError.
type answer struct {
	Error struct {
		Code       string
		Message    string
		InnerError struct{ Code string }
	}
}

// refusal judges an error that the vault answered with.
func (v *vault) refusal(r *azcore.ResponseError, a action) error {
	var body answer
	if b, err := runtime.Payload(r.RawResponse); err == nil && json.Unmarshal(b, &body) != nil {
		body = answer{}
	}
	code := body.Error.InnerError.Code
	if code == "" {
		code = body.Error.Code
	}
	why := kms.Text(code + ": " + body.Error.Message)
	if body.Error.Message == "" {
		why = kms.Text(strings.TrimSpace(strconv.Itoa(r.StatusCode) + " " + http.StatusText(r.StatusCode) + " " + r.ErrorCode))
	}
	e := &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: fmt.Errorf("%s at %s: %s", a, v.host, why)}
	switch s := r.StatusCode; {
	case s == http.StatusUnauthorized:
		e.Code, e.Remedy = kms.CodeExpired, "log in again: `az login`, or renew AZURE_CLIENT_SECRET; the identity must be of the vault's own tenant"
	case s == http.StatusForbidden:
		v.forbidden(e, code, a)
	case s == http.StatusNotFound:
		e.Code, e.Remedy = kms.CodeNotFound, "check the vault, the name and the version: az keyvault "+a.noun()+" list-versions "+v.named()
	case s == http.StatusConflict: // ObjectIsBeingDeleted, ObjectIsDeletedButRecoverable
		e.Code, e.Remedy = kms.CodeUnusable, "az keyvault key recover "+v.named()
	case s == http.StatusTooManyRequests:
		e.Code, e.Temporary, e.After = kms.CodeThrottled, true, retryAfter(r.RawResponse)
	case s >= 500, s == http.StatusRequestTimeout:
		e.Temporary, e.After = true, retryAfter(r.RawResponse)
	}
	return e
}

// label is the key's name, with its version if it is known.
func (v *vault) label() string { return strings.TrimSuffix(v.name+"/"+v.version, "/") }

// forbidden tells a key that does not sign from a caller who may not have it sign. Both are answered with 403 Forbidden, and only
// the inner code differs.
func (v *vault) forbidden(e *kms.Error, code string, a action) {
	switch {
	case strings.HasSuffix(code, "Disabled"): // KeyDisabled, SecretDisabled
		e.Code, e.Remedy = kms.CodeUnusable, v.command(a, "--enabled true")
	case strings.HasSuffix(code, "Expired"), strings.Contains(code, "NotYetValid"):
		e.Code, e.Remedy = kms.CodeUnusable, v.command(a, "--not-before DATE --expires DATE")
	case code == "KeyOperationForbidden":
		e.Code, e.Remedy = kms.CodeUnusable, v.command(a, "--ops sign verify")
	case code == "ForbiddenByFirewall", code == "ForbiddenByConnection":
		e.Code = kms.CodeDenied
		e.Remedy = "the vault takes no requests from this network: add its address to the vault's firewall, or use its private endpoint"
	default: // ForbiddenByRbac, ForbiddenByPolicy, AccessDenied
		e.Code = kms.CodeDenied
		e.Remedy = fmt.Sprintf("%s is missing: assign the role %q on the key, or allow it in the vault's access policies", a, v.role(a))
		if v.hsm {
			e.Remedy = fmt.Sprintf("%s is missing: assign the local role %q on /keys/%s", a, v.role(a), v.name)
		}
	}
}

// maxAfter bounds what a service may ask to wait; kms.Ask waits less.
const maxAfter = time.Hour

// retryAfter reads when to ask again (RFC 9110 section 10.2.3), whose dates are compared with the answer's own.
func retryAfter(r *http.Response) time.Duration {
	text := r.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 16); err == nil {
		return min(time.Duration(seconds)*time.Second, maxAfter)
	}
	if t, err := http.ParseTime(text); err == nil && !dateOf(r).IsZero() {
		return min(max(0, t.Sub(dateOf(r))), maxAfter)
	}
	return 0
}
