// Package notify brings an event to people: by webhook, e-mail, Slack,
// PagerDuty, or one of the many services another library knows.
//
// A Channel makes one attempt and says what came of it; when to try, again and
// for how long, is up to package rule. A receiver that has to act only once
// goes by the id, which is the same for every attempt:
//
//	webhook    the webhook-id header
//	e-mail     the Message-ID
//	PagerDuty  dedup_key, which is one for all events about one subject, so that
//	           the end of something resolves what its beginning triggered
//
// # The webhook's signature
//
// A webhook is the event as CloudEvents JSON, signed as the Standard Webhooks
// specification says: webhook-signature is "v1," and the base64 of the
// HMAC-SHA256 of ID.TIMESTAMP.BODY under the shared secret, webhook-timestamp
// the seconds since 1970. Verify does what a receiver should: it compares in
// constant time and refuses timestamps more than five minutes off.
//
// Secrets are read from their references at every attempt, so that a changed
// one counts at once, and never appear in errors or receipts.
package notify
