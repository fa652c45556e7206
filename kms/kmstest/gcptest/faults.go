package gcptest

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// A Fault is something that goes wrong with one call.
type Fault int

const (
	OK Fault = iota

	// Refusals.
	Throttled         // a quota is used up
	ThrottledBriefly  // and the answer says when to come back
	Denied            // IAM, with the permission that is missing
	DeniedTersely     // as older parts of the service say it: no details
	ServiceDisabled   // the API is off in the project
	Scope             // the token's scopes do not include the service
	QuotaProject      // the project to bill is not the caller's to use
	Perimeter         // VPC Service Controls
	Disabled          // the version is disabled
	DisabledREST      // with the status that the REST front makes of it
	DestroyScheduled  // its destruction is scheduled
	Destroyed         // it is gone
	PendingGeneration // it is not there yet
	Purpose           // the key is not for signing
	Expired           // the token ran out
	Missing           // the token did not arrive
	Unavailable       // 503
	Internal          // 500
	WrongLocation     // INVALID_ARGUMENT of another kind
	Unknown           // a status nobody expects
	LargeAnswer       // 5 MB of it
	Unfiltered        // the list has all versions, whatever was asked for
	Silence           // the call is taken and never answered
	Lost              // it is done, and the connection breaks before the answer arrives

	// Wrong answers.
	OtherKey       // the signature is by another key
	OtherName      // the answer is of another version
	OtherAlgorithm // the public key is not of the algorithm that is told
	TrailingPEM    // the public key comes twice
	LongSalt       // PSS with the longest salt
	Truncated      // what is signed is a part of the digest
	BadChecksum    // the checksum of what is returned is wrong
	NoChecksum     // or not there
	Unverified     // the checksum of the digest was not looked at
)

const domain = "googleapis.com"

var permissions = map[string]string{
	GetPublicKey:          "cloudkms.cryptoKeyVersions.viewPublicKey",
	AsymmetricSign:        "cloudkms.cryptoKeyVersions.useToSign",
	ListCryptoKeyVersions: "cloudkms.cryptoKeyVersions.list",
}

func inState(name, state string) string {
	return fmt.Sprintf("%s is not enabled, current state is: %s.", name, state)
}

// status returns what the service answers instead of doing what it was asked, nil if the fault is of another kind.
func (f Fault) status(op, name string) error {
	info := func(reason string, metadata map[string]string) protoadapt.MessageV1 {
		return &errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: metadata}
	}
	service := map[string]string{"service": Host}
	quota := "Quota exceeded for quota metric 'Cryptographic requests' and limit 'Cryptographic requests per minute' of service '" + Host +
		"' for consumer 'project_number:123456789012'."
	limits := info("RATE_LIMIT_EXCEEDED", map[string]string{"service": Host, "quota_metric": Host + "/crypto_requests", "quota_limit": "CryptoRequestsPerMinutePerProject"})
	switch f {
	case Throttled:
		return fail(codes.ResourceExhausted, quota, limits)
	case ThrottledBriefly:
		return fail(codes.ResourceExhausted, quota, limits, &errdetails.RetryInfo{RetryDelay: durationpb.New(700 * time.Millisecond)})
	case Denied:
		return fail(codes.PermissionDenied, fmt.Sprintf("Permission '%s' denied on resource '%s' (or it may not exist).", permissions[op], name),
			info("IAM_PERMISSION_DENIED", map[string]string{"permission": permissions[op], "resource": name}))
	case DeniedTersely:
		return fail(codes.PermissionDenied, fmt.Sprintf("Permission '%s' denied on resource '%s' (or it may not exist).", permissions[op], name))
	case ServiceDisabled:
		return fail(codes.PermissionDenied, "Cloud Key Management Service (KMS) API has not been used in project 123456789012 before or it is disabled. "+
			"Enable it by visiting https://console.developers.google.com/apis/api/cloudkms.googleapis.com/overview?project=123456789012 then retry.",
			info("SERVICE_DISABLED", service))
	case Scope:
		return fail(codes.PermissionDenied, "Request had insufficient authentication scopes.", info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", service))
	case QuotaProject:
		return fail(codes.PermissionDenied, "Caller does not have required permission to use project other. Grant the caller the "+
			"roles/serviceusage.serviceUsageConsumer role.", info("USER_PROJECT_DENIED", service))
	case Perimeter:
		return fail(codes.PermissionDenied, "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: AbCdEf",
			info("SECURITY_POLICY_VIOLATED", map[string]string{"service": Host, "uid": "AbCdEf"}))
	case Disabled:
		return fail(codes.FailedPrecondition, inState(name, "DISABLED"))
	case DisabledREST:
		return fail(codes.InvalidArgument, inState(name, "DISABLED"))
	case DestroyScheduled:
		return fail(codes.FailedPrecondition, inState(name, "DESTROY_SCHEDULED"))
	case Destroyed:
		return fail(codes.FailedPrecondition, inState(name, "DESTROYED"))
	case PendingGeneration:
		return fail(codes.FailedPrecondition, inState(name, "PENDING_GENERATION"))
	case Purpose:
		return fail(codes.InvalidArgument, "The CryptoKey's purpose ENCRYPT_DECRYPT does not allow this operation.")
	case Expired:
		return fail(codes.Unauthenticated, invalidToken, info("ACCESS_TOKEN_EXPIRED", service))
	case Missing:
		return missingToken()
	case Unavailable:
		return fail(codes.Unavailable, "The service is currently unavailable.")
	case Internal:
		return fail(codes.Internal, "Internal error encountered.")
	case WrongLocation:
		return fail(codes.InvalidArgument, "The location is not supported.")
	case Unknown:
		return fail(codes.DataLoss, "Something\nnobody\tknows\x1b[31m.")
	}
	return nil
}

const invalidToken = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication " +
	"credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."

func missingToken() error {
	return fail(codes.Unauthenticated, "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "+
		"other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
		&errdetails.ErrorInfo{Reason: "CREDENTIALS_MISSING", Domain: domain, Metadata: map[string]string{"service": Host}})
}

// fail makes a status with details.
func fail(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	st, err := status.New(code, text).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return st.Err()
}
