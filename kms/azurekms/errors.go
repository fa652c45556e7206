package azurekms

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

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
	return kms.Failure(kms.CodeUnreachable, "check the network and HTTPS_PROXY: "+host+":443 must be reachable; the CA of a proxy that looks "+
		"inside goes to SSL_CERT_FILE", "reaching %s: %w", host, err)
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
	e := kms.Failure(kms.CodeService, "", "%s at %s: %s", a, v.host, why)
	switch s := r.StatusCode; {
	case s == http.StatusUnauthorized:
		e.Code, e.Remedy = kms.CodeExpired, "log in again: run `az login`, or renew AZURE_CLIENT_SECRET; the identity must be of the vault's own tenant"
	case s == http.StatusForbidden:
		v.forbidden(e, code, a)
	case s == http.StatusNotFound:
		e.Code, e.Remedy = kms.CodeNotFound, "check the vault, the name and the version: `az keyvault "+a.noun()+" list-versions "+v.named()+"` shows what there is"
	case s == http.StatusConflict: // ObjectIsBeingDeleted, ObjectIsDeletedButRecoverable
		e.Code, e.Remedy = kms.CodeUnusable, "bring it back: `az keyvault key recover "+v.named()+"`"
	case s == http.StatusTooManyRequests:
		e.Code, e.Temporary, e.After = kms.CodeThrottled, true, kms.RetryAfter(r.RawResponse.Header)
		e.Remedy = "run it again later with fewer --jobs: a vault takes so many requests in ten seconds"
	case s >= 500, s == http.StatusRequestTimeout:
		e.Temporary, e.After = true, kms.RetryAfter(r.RawResponse.Header)
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
		e.Code, e.Remedy = kms.CodeUnusable, "enable it: "+v.command(a, "--enabled true")
	case strings.HasSuffix(code, "Expired"), strings.Contains(code, "NotYetValid"):
		e.Code, e.Remedy = kms.CodeUnusable, "set its dates: "+v.command(a, "--not-before DATE --expires DATE")
	case code == "KeyOperationForbidden":
		e.Code, e.Remedy = kms.CodeUnusable, "let it sign: "+v.command(a, "--ops sign verify")
	case code == "ForbiddenByFirewall", code == "ForbiddenByConnection":
		e.Code = kms.CodeDenied
		e.Remedy = "the vault takes no requests from this network: add its address to the vault's firewall, or use its private endpoint"
	default: // ForbiddenByRbac, ForbiddenByPolicy, AccessDenied
		e.Code = kms.CodeDenied
		e.Remedy = fmt.Sprintf("allow %s: assign the role %q on the key, or add it to the vault's access policies", a, v.role(a))
		if v.hsm {
			e.Remedy = fmt.Sprintf("allow %s: assign the local role %q on /keys/%s", a, v.role(a), v.name)
		}
	}
}
