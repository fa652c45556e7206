package gcpkms

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/imprint-oci/imprint/kms"
)

// An answer notes whether the service said anything at all. gRPC makes up the same status codes for a connection that broke.
type answer struct{ header, trailer metadata.MD }

func (a *answer) listen() gax.CallOption {
	return gax.WithGRPCOptions(grpc.Header(&a.header), grpc.Trailer(&a.trailer))
}

func (a *answer) came() bool { return len(a.header)+len(a.trailer) > 0 }

// An act is a method of the service.
type act struct {
	doing      string // "" when the caller says it
	permission string
}

var (
	reading = act{"reading its public key: ", "cloudkms.cryptoKeyVersions.viewPublicKey"}
	signing = act{"", "cloudkms.cryptoKeyVersions.useToSign"}
	listing = act{"listing its versions: ", "cloudkms.cryptoKeyVersions.list"}
)

const (
	logIn      = "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
	logInAgain = "log in again: run `gcloud auth application-default login`, or renew what GOOGLE_APPLICATION_CREDENTIALS names"
	reach      = "check the network and HTTPS_PROXY: cloudkms.googleapis.com:443 must be reachable; the CA of a proxy that looks " +
		"inside goes to SSL_CERT_FILE"
)

var (
	// The service's own words, as measured. Over gRPC the status is FailedPrecondition, over REST InvalidArgument.
	inState  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`current state is:? *([A-Z_]+)`) })
	inactive = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)is not enabled|purpose`) })
	// A post-quantum key has no PEM: the service wants to be told another format (GetPublicKeyRequest.public_key_format).
	noPEM   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)public[ _]?key[ _]?format|\bPQC\b|post-quantum`) })
	proxied = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`failed to do connect handshake, response: \\*"HTTP/[0-9.]+ ([^\\"]+)`)
	})
	// What package auth says of a token that it could not get; gRPC hands on nothing but its text.
	refused = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`invalid_grant|invalid_rapt|invalid_client|unauthorized_client|invalid_token|cannot fetch token: 40[01]`)
	})
	busy = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`cannot fetch token: (5[0-9][0-9]|429)|status code 5[0-9][0-9]`)
	})
	offline = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(Get|Post|Put) "https?://|dial tcp|lookup |x509: |connection reset|i/o timeout|EOF|deadline exceeded`)
	})
)

// failed says why the service did not do what it was asked. answered tells what it said from what gRPC made up.
func (a act) failed(name resource, err error, answered bool) error {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	said := errors.New(kms.Text(st.Message()))
	e := &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: said}
	switch {
	case strings.HasPrefix(st.Message(), "unexpected HTTP status code received from server"):
		e.Err = fmt.Errorf("what answered is not Google Cloud KMS: %w", said)
		e.Temporary, e.Remedy = st.Code() == codes.Unavailable, reach
	case strings.HasPrefix(st.Message(), "grpc: received message larger than max"):
	case !answered && st.Code() == codes.Unauthenticated:
		e = noToken(strings.TrimPrefix(st.Message(), "transport: per-RPC creds failed due to error: "))
	case !answered:
		e.Code, e.Remedy = kms.CodeUnreachable, reach
		e.Err = fmt.Errorf("reaching cloudkms.googleapis.com: %s", kms.Text(broken(st.Message())))
	default:
		a.told(e, name, st, said)
	}
	if a.doing != "" {
		e.Err = fmt.Errorf("%s%w", a.doing, e.Err)
	}
	return e
}

// told fills e with what the service itself said.
func (a act) told(e *kms.Error, name resource, st *status.Status, said error) {
	switch st.Code() {
	case codes.PermissionDenied:
		a.denied(e, name, st, said)
	case codes.Unauthenticated:
		e.Code, e.Remedy = kms.CodeExpired, logInAgain+"; a wrong clock looks the same"
		if reasonOf(st).GetReason() == "CREDENTIALS_MISSING" {
			e.Code, e.Remedy = kms.CodeCredentials, logIn
		}
		e.Err = fmt.Errorf("the login is not accepted: %w", said)
	case codes.NotFound:
		e.Code = kms.CodeNotFound
		e.Remedy = "check the project, the location, the ring, the name and the version: `gcloud kms keys versions list " + name.flags() + "` shows what there is"
	case codes.FailedPrecondition:
		unfit(e, name, st.Message())
	case codes.InvalidArgument:
		switch {
		case inState().MatchString(st.Message()), inactive().MatchString(st.Message()):
			unfit(e, name, st.Message())
		case a == reading && noPEM().MatchString(st.Message()):
			*e = *unusable("it is not a key whose public key can be had in PEM: " + said.Error())
		default:
			e.Err = fmt.Errorf("%v: %w", st.Code(), said)
		}
	case codes.ResourceExhausted:
		e.Code, e.Temporary, e.After = kms.CodeThrottled, true, pauseOf(st)
		e.Remedy = "run it again later with fewer --jobs, or have the quota of Google Cloud KMS in the project " + name.part("projects") + " raised"
	case codes.DeadlineExceeded:
		// The service knows our deadline and may announce its end a moment before we notice. That is as good as silence.
		e.Code, e.Remedy = kms.CodeUnreachable, reach
		e.Err = fmt.Errorf("not done in time: %w", said)
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Aborted:
		e.Temporary, e.After = true, pauseOf(st)
		e.Err = fmt.Errorf("%v: %w", st.Code(), said)
	default:
		e.Err = fmt.Errorf("%v: %w", st.Code(), said)
	}
}

// broken takes gRPC's wrapping off why there is no connection, and leaves the first line of what a proxy answered.
func broken(why string) string {
	if m := proxied().FindStringSubmatch(why); m != nil {
		return "the proxy answers " + m[1]
	}
	if inner, ok := strings.CutPrefix(why, `connection error: desc = "transport: `); ok {
		return strings.TrimSuffix(inner, `"`)
	}
	return why
}

// denied names the permission that is missing, and keeps the service's phrase for what it does not tell.
func (a act) denied(e *kms.Error, name resource, st *status.Status, said error) {
	e.Code = kms.CodeDenied
	project := name.part("projects")
	switch why := reasonOf(st); why.GetReason() {
	case "SERVICE_DISABLED":
		e.Remedy = "enable it: `gcloud services enable cloudkms.googleapis.com --project " + project + "`"
	case "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
		e.Remedy = "the login lacks the scope https://www.googleapis.com/auth/cloudkms: give this machine cloud-platform, or log in again"
	case "USER_PROJECT_DENIED":
		e.Remedy = "run `gcloud auth application-default set-quota-project PROJECT`, with a project where you have serviceusage.services.use"
	case "IAM_PERMISSION_DENIED", "":
		permission := a.permission
		if p := why.GetMetadata()["permission"]; p != "" {
			permission = kms.Text(p)
		}
		e.Err = fmt.Errorf("the permission %s is denied on %s (or it may not exist)", permission, name)
		e.Remedy = "allow cloudkms.cryptoKeyVersions.viewPublicKey and useToSign: `gcloud kms keys add-iam-policy-binding " +
			name.part("cryptoKeys") + " " + name.ring() + " --role roles/cloudkms.signerVerifier --member MEMBER`"
		if a == listing {
			e.Remedy = "name the version, as " + name.uri() + "/cryptoKeyVersions/1: that needs no permission beyond roles/cloudkms.signerVerifier"
		}
	default: // an organisation's policy, a VPC perimeter, billing: the service says which
		e.Err = fmt.Errorf("denied: %w", said)
	}
}

// unfit says in which state the key is and what ends it.
func unfit(e *kms.Error, name resource, said string) {
	e.Code = kms.CodeUnusable
	m := inState().FindStringSubmatch(said)
	if m == nil {
		if strings.Contains(strings.ToLower(said), "purpose") { // which is for ever
			e.Remedy = "make another key: `gcloud kms keys create KEY --purpose asymmetric-signing --default-algorithm ec-sign-p384-sha384 " + name.ring() + "`"
		}
		return
	}
	v := name.version()
	e.Err = fmt.Errorf("version %s is not enabled, its state is %s", v, m[1])
	enable := "`gcloud kms keys versions enable " + v + " " + name.flags() + "`"
	switch m[1] {
	case "DISABLED":
		e.Remedy = "enable it: " + enable
	case "DESTROY_SCHEDULED":
		e.Remedy = "bring it back: `gcloud kms keys versions restore " + v + " " + name.flags() + "`, then " + enable
	case "PENDING_GENERATION", "PENDING_IMPORT":
		e.Remedy = "wait until it is ENABLED: `gcloud kms keys versions describe " + v + " " + name.flags() + "`"
	default: // destroyed, or never made
		e.Remedy = "nothing brings this version back: make another (`gcloud kms keys versions create " + name.flags() +
			"`), and get a certificate for it"
	}
}

// noToken says why there is no token for the service, by the words of package auth.
func noToken(why string) *kms.Error {
	metadata := strings.Contains(why, "computeMetadata")
	switch {
	case refused().MatchString(why):
		return kms.Failure(kms.CodeExpired, logInAgain, "the Google Cloud login is refused: %s", kms.Text(why))
	case !metadata && busy().MatchString(why):
		e := kms.Failure(kms.CodeService, "", "the token service of these credentials fails: %s", kms.Text(why))
		e.Temporary = true
		return e
	case !metadata && offline().MatchString(why):
		return kms.Failure(kms.CodeUnreachable, reach, "reaching the token service of these credentials: %s", kms.Text(why))
	}
	return noCredentials(why)
}

func noCredentials(why string) *kms.Error {
	return kms.Failure(kms.CodeCredentials, logIn, "no Google Cloud credentials: %s", kms.Text(why))
}

// reasonOf returns why the service refused, nil if it does not say so in a form for programs (google.rpc.ErrorInfo).
func reasonOf(st *status.Status) *errdetails.ErrorInfo {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// pauseOf returns how long the service asks to wait, 0 if it does not.
func pauseOf(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
