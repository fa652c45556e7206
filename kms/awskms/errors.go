package awskms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imprint-oci/imprint/kms"
)

const (
	remedyNetwork = "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL_KMS"
	remedyTrust   = "the CA of a proxy that looks inside, or of an endpoint of your own, goes to AWS_CA_BUNDLE"
)

// explain says why a call with the given action (the permission that it needs) on a key failed. It goes by error codes: of
// those that matter half have no type in the SDK.
func (s *session) explain(ctx context.Context, err error, action, id string) error {
	var credentials *credentialsError
	if errors.As(err, &credentials) {
		return s.explainCredentials(ctx, credentials)
	}
	e := &kms.Error{Code: kms.CodeService, Class: kms.ErrService}
	var api smithy.APIError
	var sent *smithyhttp.RequestSendError
	switch {
	case ctx.Err() != nil: // time-outs of the connection look like it to errors.Is
		e.Code, e.Err, e.Remedy = kms.CodeUnreachable, fmt.Errorf("waiting for %s", s.where), remedyNetwork
	case errors.As(err, &api):
		s.explainAnswer(e, err, api, action, id)
	case errors.As(err, &sent):
		e.Code, e.Err, e.Remedy = kms.CodeUnreachable, fmt.Errorf("reaching %s", reaching(s.where, sent)), remedyNetwork
		if isUntrusted(sent) {
			e.Remedy = remedyTrust
		}
	case errors.Is(err, kms.ErrBroken), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.Code, e.Err, e.Remedy = kms.CodeUnreachable, fmt.Errorf("the connection to %s broke within its answer", s.where), remedyNetwork
	case errors.Is(err, kms.ErrTooLong):
		e.Err = fmt.Errorf("reading what %s says: %w (%d bytes are read)", s.where, kms.ErrTooLong, maxAnswer)
	case status(err) >= 500, isThrottled("", status(err)): // of a proxy, or of what balances the load, in words of its own
		e.Temporary, e.After = true, after(err)
		e.Err = fmt.Errorf("%s answers with HTTP %d", s.where, status(err))
		if isThrottled("", status(err)) {
			e.Code, e.Remedy = kms.CodeThrottled, "run it again later with fewer --jobs"
		}
	default:
		e.Err = fmt.Errorf("%s gives an answer that cannot be read (HTTP %d): %s", s.where, status(err), kms.Text(innermost(err).Error()))
	}
	return e
}

// innermost takes off what the SDK says around an error: which operation it was, in which of its steps.
func innermost(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// explainAnswer fills e from an answer that is an error.
func (s *session) explainAnswer(e *kms.Error, err error, api smithy.APIError, action, id string) {
	code, at := api.ErrorCode(), status(err)
	e.Err = fmt.Errorf("%s says %s", s.where, said(api))
	switch {
	case isThrottled(code, at):
		e.Code, e.Temporary, e.After = kms.CodeThrottled, true, after(err)
		e.Remedy = "run it again later with fewer --jobs, or have the account's quota of " + action + " in " + s.region + " raised"
	case at >= 500, code == "KeyUnavailableException", code == "DependencyTimeoutException", code == "KMSInternalException":
		e.Temporary, e.After = true, after(err)
		e.Err = fmt.Errorf("%w (HTTP %d%s)", e.Err, at, request(err))
	default:
		s.explainRefusal(e, api, action, id)
	}
	if e.Code == kms.CodeService && !e.Temporary {
		e.Err = fmt.Errorf("%w (HTTP %d%s)", e.Err, at, request(err))
	}
}

// explainRefusal is about answers that asking again does not change.
func (s *session) explainRefusal(e *kms.Error, api smithy.APIError, action, id string) {
	if isExpired(api.ErrorCode()) {
		e.Code, e.Remedy = kms.CodeExpired, "log in again: "+s.ssoLogin()+", or renew AWS_SESSION_TOKEN"
	}
	switch api.ErrorCode() {
	case "AccessDeniedException", "AccessDenied":
		e.Code, e.Remedy = kms.CodeDenied, "allow "+action+" on "+id+" in the key's policy or in the policy of this identity"
		if action == "kms:GetPublicKey" {
			e.Remedy = "allow kms:GetPublicKey, and kms:Sign to sign, on " + id + " in the key's policy or in the policy of this identity"
		}
	case "NotFoundException", "InvalidArnException":
		e.Code = kms.CodeNotFound
		e.Err = fmt.Errorf("there is no key %s in %s: %s", id, s.region, said(api))
		e.Remedy = "check the name, the region (?region=) and the account (name the key by its ARN): `aws kms list-aliases --region " + s.region + "` shows what there is"
	case "DisabledException":
		e.Code, e.Remedy = kms.CodeUnusable, "enable it: `aws kms enable-key --region "+s.region+" --key-id "+id+"`"
	case "KMSInvalidStateException":
		e.Code, e.Remedy = kms.CodeUnusable, "`aws kms describe-key --region "+s.region+" --key-id "+id+"` shows its state"
		if strings.Contains(api.ErrorMessage(), "pending deletion") {
			e.Remedy = "bring it back: `aws kms cancel-key-deletion --region " + s.region + " --key-id " + id + "`, then `aws kms enable-key`"
		}
	case "InvalidKeyUsageException":
		e.Code = kms.CodeUnusable
		e.Err = fmt.Errorf("%w; %s", e.Err, usable)
	case "UnsupportedOperationException":
		// A symmetric key has no public key that could be asked for.
		e.Code, e.Class = kms.CodeAlgorithm, kms.ErrInvalid
		e.Err = fmt.Errorf("%w; %s", e.Err, usable)
	case "UnrecognizedClientException", "InvalidClientTokenId":
		e.Code = kms.CodeExpired
		e.Remedy = "check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, and that the account has enabled the region " + s.region + "; or " + s.ssoLogin()
	case "InvalidSignatureException", "IncompleteSignatureException", "SignatureDoesNotMatch":
		e.Code, e.Remedy = kms.CodeExpired, "check AWS_SECRET_ACCESS_KEY and this machine's clock"
	case "MissingAuthenticationTokenException", "MissingAuthenticationToken":
		e.Code, e.Remedy = kms.CodeCredentials, remedyCredentials
	}
}

func isThrottled(code string, at int) bool {
	switch code {
	case "ThrottlingException", "Throttling", "ThrottledException", "RequestThrottled", "RequestThrottledException",
		"TooManyRequestsException", "RequestLimitExceeded":
		return true
	}
	return at == http.StatusTooManyRequests
}

func isExpired(code string) bool { return code == "ExpiredTokenException" || code == "ExpiredToken" }

func isUntrusted(err error) bool {
	var unknown x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &unknown) || errors.As(err, &certificate)
}

// said repeats an error that a service answered with, as "NotFoundException: Alias … is not found".
func said(api smithy.APIError) string {
	code, message := kms.Text(api.ErrorCode()), kms.Text(api.ErrorMessage())
	switch {
	case message == "" || message == code:
		return code
	case code == "":
		return message
	}
	return code + ": " + message
}

// reaching says why a request did not get through to what known names, and to which host if that does not say it.
func reaching(known string, err error) string {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return known + ": " + kms.Text(err.Error())
	}
	if at, err := url.Parse(failed.URL); err == nil && !strings.Contains(known, at.Host) {
		known += " at " + at.Scheme + "://" + at.Host
	}
	return known + ": " + kms.Text(failed.Err.Error())
}

func answerOf(err error) *smithyhttp.Response {
	var r *smithyhttp.ResponseError
	if !errors.As(err, &r) || r.Response == nil || r.Response.Response == nil {
		return nil
	}
	return r.Response
}

func status(err error) int {
	if a := answerOf(err); a != nil {
		return a.StatusCode
	}
	return 0
}

// request names the request as AWS support wants it named.
func request(err error) string {
	if a := answerOf(err); a != nil {
		if id := a.Header.Get("X-Amzn-Requestid"); id != "" {
			return ", request " + kms.Text(id)
		}
	}
	return ""
}

// after is how long the service asks to wait.
func after(err error) time.Duration {
	if a := answerOf(err); a != nil {
		return kms.RetryAfter(a.Header)
	}
	return 0
}
