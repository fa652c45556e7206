package awskms

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imprint-oci/imprint/kms"
)

// credentials marks the errors of the credential chain, so that they are told from those of the key service: the SDK gives
// both as an error of the call that was waiting for them.
type credentials struct{ inner aws.CredentialsProvider }

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := c.inner.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	return got, nil
}

// from reports whether credentials are taken from one of the sources.
func (c *credentials) from(sources ...aws.CredentialSource) bool {
	told, ok := c.inner.(aws.CredentialProviderSource)
	return ok && slices.ContainsFunc(told.ProviderSources(), func(s aws.CredentialSource) bool { return slices.Contains(sources, s) })
}

// login gets credentials before anything is asked of the key. A program of the user's own may take its time: it may be asking
// him something.
func (s *session) login(ctx context.Context) error {
	get := func(ctx context.Context) error {
		if _, err := s.credentials.Retrieve(ctx); err != nil {
			return s.explain(ctx, err, "", "")
		}
		return nil
	}
	if s.credentials.from(aws.CredentialSourceProcess, aws.CredentialSourceProfileProcess) {
		err := get(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("getting AWS credentials: %w", context.Cause(ctx))
		}
		return err
	}
	return kms.Ask(ctx, kms.DefaultPatience, get)
}

const remedyCredentials = "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run `aws sso login`"

// explainCredentials says why there are no credentials. What the SDK says is rarely it: that a machine at home has no role of
// EC2 is no news, and what a credential process prints may be the secret itself.
func (s *session) explainCredentials(ctx context.Context, err *credentialsError) *kms.Error {
	e := &kms.Error{Code: kms.CodeCredentials, Class: kms.ErrService, Remedy: remedyCredentials}
	var operation *smithy.OperationError
	var process *processcreds.ProviderError
	var sent *smithyhttp.RequestSendError
	var api smithy.APIError
	who := "AWS"
	switch {
	case errors.As(err, &operation):
		who = operation.Service()
	case s.credentials.from(aws.CredentialSourceHTTP):
		who = "the endpoint of AWS_CONTAINER_CREDENTIALS"
	}
	switch {
	case ctx.Err() != nil:
		e.Code, e.Err, e.Remedy = kms.CodeUnreachable, errors.New("waiting for AWS credentials"), remedyNetwork
	case errors.Is(err, kms.ErrTooLong):
		e.Err = fmt.Errorf("getting AWS credentials from %s: %w", who, kms.ErrTooLong)
	case who == "ec2imds" && (status(err) >= 500 || isThrottled("", status(err))):
		e.Code, e.Temporary = kms.CodeService, true
		e.Err = fmt.Errorf("getting AWS credentials: the metadata service of this machine answers with HTTP %d", status(err))
	case who == "ec2imds":
		e.Err = errors.New("no AWS credentials: neither in variables, nor in a profile, nor of a role of this machine")
	case errors.As(err, &process):
		e.Err = errors.New("the credential_process of the AWS profile gives no credentials")
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			e.Err = fmt.Errorf("%w: %s", e.Err, exit.ProcessState)
		}
		e.Remedy = "run that program by hand to see what it lacks"
	case errors.As(err, &sent):
		e.Code, e.Err = kms.CodeUnreachable, fmt.Errorf("getting AWS credentials from %s", reaching(who, sent))
		e.Remedy = remedyNetwork
	case errors.As(err, &api):
		e.Err = fmt.Errorf("getting AWS credentials: %s says %s", who, said(api))
		switch {
		case isThrottled(api.ErrorCode(), status(err)):
			e.Code, e.Temporary, e.After, e.Remedy = kms.CodeThrottled, true, after(err), "run it again later"
		case status(err) >= 500:
			e.Code, e.Temporary, e.After, e.Remedy = kms.CodeService, true, after(err), "run it again later"
		case isExpired(api.ErrorCode()):
			e.Code, e.Remedy = kms.CodeExpired, "log in again: "+s.ssoLogin()+", or renew the token"
		case who == "STS":
			e.Remedy = "the role's trust policy must let this identity assume it: see sts:AssumeRole or sts:AssumeRoleWithWebIdentity"
		case who == "SSO", who == "SSO OIDC":
			e.Code, e.Remedy = kms.CodeExpired, s.ssoLogin()
		}
	case s.credentials.from(aws.CredentialSourceSSO, aws.CredentialSourceProfileSSO, aws.CredentialSourceSSOLegacy,
		aws.CredentialSourceProfileSSOLegacy):
		e.Code, e.Err, e.Remedy = kms.CodeExpired, fmt.Errorf("no AWS credentials: the SSO session has ended: %s", kms.Text(err.Error())), s.ssoLogin()
	case s.credentials.from(aws.CredentialSourceLogin, aws.CredentialSourceProfileLogin):
		e.Code, e.Err, e.Remedy = kms.CodeExpired, fmt.Errorf("no AWS credentials: %s", kms.Text(err.Error())), "run `aws login`"
	default:
		e.Err = fmt.Errorf("getting AWS credentials: %s", kms.Text(err.Error()))
	}
	return e
}

// plain are the profile names that a shell takes as they are.
var plain = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@+-]*$`) })

// ssoLogin is the command that opens a session anew.
func (s *session) ssoLogin() string {
	if !plain().MatchString(s.profile) {
		return "run `aws sso login`"
	}
	return "run `aws sso login --profile " + s.profile + "`"
}
