package azurekms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/imprint-oci/imprint/kms"
)

const remedyCredentials = "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run `az login`"

// credentials says in one line why there is no token. The SDK writes a page, with whole responses in it.
type credentials struct{ azcore.TokenCredential }

func (c credentials) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.TokenCredential.GetToken(ctx, o)
	if err == nil {
		return token, nil
	}
	e := &kms.Error{Code: kms.CodeCredentials, Class: kms.ErrService, Remedy: remedyCredentials}
	said := answerIn(err)
	host, broken := watchOf(ctx).failed()
	switch {
	case said != nil && said.Request.URL.Scheme == "https":
		answered(e, said)
	case said != nil: // a metadata service, and hardly Azure's; the SDK takes its answer for the last word and tries nothing further
		missing(e, err.Error())
		e.Err = fmt.Errorf("%w (%s answers %s)", e.Err, kms.Text(said.Request.URL.Host), kms.Text(said.Status))
		e.Remedy = "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; or run `az login` and set AZURE_TOKEN_CREDENTIALS=dev, " +
			"so that no metadata service is asked"
	case broken != nil:
		return token, unreachable(host, broken)
	default:
		missing(e, err.Error())
	}
	e.Err = fmt.Errorf("getting a token of tenant %s: %w", kms.Text(o.TenantID), e.Err)
	if e.Remedy == remedyCredentials {
		e.Remedy += "; the vault's tenant is " + kms.Text(o.TenantID)
	}
	return token, e
}

// answerIn returns the answer that an error of the SDK is about, nil if there is none.
func answerIn(err error) *http.Response {
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil || failed.RawResponse.Request == nil {
		return nil
	}
	return failed.RawResponse
}

// answered judges an error that Entra ID answered with (RFC 6749 section 5.2, with Entra's codes in error_description).
func answered(e *kms.Error, r *http.Response) {
	var body struct {
		Error       string
		Description string `json:"error_description"`
	}
	if b, err := runtime.Payload(r); err == nil && json.Unmarshal(b, &body) != nil {
		body.Error = ""
	}
	text, _, _ := strings.Cut(body.Description, "Trace ID:")
	if text = kms.Text(text); text == "" {
		text = kms.Text(fmt.Sprintf("%d %s %s", r.StatusCode, http.StatusText(r.StatusCode), body.Error))
	}
	e.Err = errors.New(text)
	switch {
	case r.StatusCode == http.StatusTooManyRequests:
		e.Code, e.Temporary, e.After, e.Remedy = kms.CodeThrottled, true, kms.RetryAfter(r.Header), "run it again later"
	case r.StatusCode >= 500:
		e.Code, e.Temporary, e.After, e.Remedy = kms.CodeService, true, kms.RetryAfter(r.Header), "run it again later"
	default:
		byEntra(e, text)
	}
}

// entraCode is how an error of Entra ID begins.
var entraCode = regexp.MustCompile(`AADSTS([0-9]+)`)

// byEntra sets code and remedy by the first of Entra's codes in the text ("Microsoft Entra authentication and authorization error
// codes").
func byEntra(e *kms.Error, text string) {
	m := entraCode.FindStringSubmatch(text)
	if m == nil {
		return
	}
	switch code := m[1]; {
	case code == "7000222":
		e.Code, e.Remedy = kms.CodeExpired, "the client secret has expired: make a new one, and set AZURE_CLIENT_SECRET to its value"
	case slices.Contains([]string{"50173", "70008", "70043", "700082", "700084", "50078"}, code):
		e.Code, e.Remedy = kms.CodeExpired, "log in again: run `az login`"
	case code == "700024":
		e.Code, e.Remedy = kms.CodeExpired, "the federated token has expired: log in again just before signing"
	case code == "7000215":
		e.Remedy = "AZURE_CLIENT_SECRET is no secret of the application AZURE_CLIENT_ID: set the secret's value, not its ID"
	case code == "700016":
		e.Remedy = "AZURE_CLIENT_ID is no application in the tenant: check it, and AZURE_TENANT_ID"
	case slices.Contains([]string{"70021", "700213"}, code):
		e.Remedy = "the application trusts no such federated token: its issuer, subject and audience must match the federated credential's"
	case slices.Contains([]string{"90002", "900023"}, code):
		e.Remedy = "AZURE_TENANT_ID names no tenant"
	}
}

// missing summarises an error of the chain of credentials: a line for each that was tried, indented by a tab; and further lines of
// theirs, by two.
func missing(e *kms.Error, dump string) {
	var first string
	var others []string
	for line := range strings.SplitSeq(dump, "\n") {
		line, ok := strings.CutPrefix(line, "\t")
		if !ok || strings.HasPrefix(line, "\t") {
			continue
		}
		name, why, _ := strings.Cut(line, " ") // after a name comes a colon, or "authentication failed"
		name = strings.TrimSuffix(name, ":")
		if first != "" {
			others = append(others, name)
			continue
		}
		why, _, _ = strings.Cut(why, " To ")
		first = name + ": " + kms.Text(why)
	}
	switch {
	case first == "":
		first, _, _ = strings.Cut(dump, "\n")
		first, _, _ = strings.Cut(first, " To ") // troubleshoot, visit …; enable acquiring tokens for this tenant add it to …
		e.Err = errors.New(kms.Text(first))
	case len(others) == 0:
		e.Err = fmt.Errorf("no Azure credentials: %s", first)
	default:
		e.Err = fmt.Errorf("no Azure credentials: %s; nor is there a token from %s", first, kms.Text(strings.Join(others, ", ")))
	}
	byEntra(e, dump)
}
