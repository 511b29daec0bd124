//! Alerts, silences, the rules and the channels (HLD §11.3). A secret of a channel comes in, and never goes out.
//!
//! These lists are bounded and whole: they have the shape of `piccolo alert ... -o json`.

use axum::{http::StatusCode, response::Response};
use piccolo_core::api_server::Call;
use piccolo_rpc::{
    v1::{self, alert_channel::Way, api_server_service_server::ApiServerService as _},
    view::{
        alert::{AlertView, AlertsView, ChannelsView, RuleFile, RulesView, SilenceView},
        words::{parse_duration, whole_seconds},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Done, Shown,
    asker::{Asker, Named, Params},
    body::{Digested, Given, Optional},
    once::Once,
    problem::{Problem, Problems, Refusals},
    reads::SeverityParam,
    tags::{IfMatch, IfNoneMatch, Unchanged},
};

/// Which alerts.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertsParams {
    /// Terms joined by commas, all of which must hold: `key=value`, `key!=value`, `key~part`, with the keys `rule`,
    /// `severity`, `node`, `container`, `group`, and labels.
    #[param(example = "severity=critical,label.site=north")]
    only: Option<String>,
    /// Those that are over too, as far as they are kept.
    resolved: Option<bool>,
}

/// Alerts, and silences.
#[utoipa::path(get, path = "/alerts", tag = "alerts", params(AlertsParams),
    responses((status = 200, description = "All of them.", body = AlertsView), Problems))]
pub(super) async fn list_alerts(
    asker: Asker,
    Params(params): Params<AlertsParams>,
) -> Answer<AlertsView> {
    let request = asker.request(v1::ListAlertsRequest {
        only: params.only.unwrap_or_default(),
        resolved: params.resolved.unwrap_or(false),
    });
    let listed = asker.api.list_alerts(request).await?.into_inner();
    Ok(Shown::ok(AlertsView::from(&listed)))
}

/// One alert, also if it is over and still kept.
#[utoipa::path(get, path = "/alerts/{alert}", tag = "alerts",
    params(("alert" = String, Path, description = "Its id."), IfNoneMatch),
    responses(
        (status = 200, description = "The alert.", body = AlertView),
        Unchanged,
        (status = 404, description = "There is no such alert.", body = Problem, content_type = "application/problem+json"),
        Problems))]
pub(super) async fn get_alert(asker: Asker, Named(id): Named) -> Answer<AlertView> {
    let request = asker.request(v1::ListAlertsRequest { only: String::new(), resolved: true });
    let listed = asker.api.list_alerts(request).await?.into_inner();
    let found = listed.alerts.iter().find(|alert| !id.is_empty() && alert.id == id);
    let alert = found.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "NoSuchAlert", "there is no such alert")
            .help("GET /api/v1/alerts?resolved=true has every alert that is kept")
    })?;
    Ok(Shown::ok(AlertView::from(alert)).tagged(alert.revision))
}

/// For others to read.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Comment {
    #[serde(default)]
    comment: String,
}

/// Somebody looks after an alert: it does not escalate.
#[utoipa::path(post, path = "/alerts/{alert}/acknowledge", tag = "alerts",
    params(("alert" = String, Path, description = "Its id."), IfMatch),
    request_body(content = Comment),
    responses((status = 200, description = "The alert.", body = AlertView), Refusals, Problems))]
pub(super) async fn acknowledge(
    asker: Asker,
    Named(id): Named,
    Optional(given): Optional<Comment>,
) -> Answer<AlertView> {
    let request =
        asker.request(v1::AcknowledgeAlertsRequest { ids: vec![id], comment: given.comment });
    let alerts = asker.api.acknowledge_alerts(request).await?.into_inner().alerts;
    let alert = alerts.into_iter().next().unwrap_or_default();
    Ok(Shown::ok(AlertView::from(&alert)).tagged(alert.revision))
}

/// Which alerts somebody looks after.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Several {
    /// Of 1 to 32 alerts.
    ids: Vec<String>,
    #[serde(default)]
    comment: String,
}

/// The alerts that were asked for, as they are now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Acknowledged {
    alerts: Vec<AlertView>,
}

/// Somebody looks after several alerts: all of these, or none.
#[utoipa::path(post, path = "/alerts/acknowledge", tag = "alerts", request_body = Several,
    responses((status = 200, description = "The alerts.", body = Acknowledged), Refusals, Problems))]
pub(super) async fn acknowledge_several(
    asker: Asker,
    Given(given): Given<Several>,
) -> Answer<Acknowledged> {
    let Several { ids, comment } = given;
    let request = asker.request(v1::AcknowledgeAlertsRequest { ids, comment });
    let alerts = asker.api.acknowledge_alerts(request).await?.into_inner().alerts;
    Ok(Shown::ok(Acknowledged { alerts: alerts.iter().map(AlertView::from).collect() }))
}

/// A silence that is wanted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSilence {
    /// Of which alerts, as in the list of alerts; not empty.
    only: String,
    /// 90 days at most.
    seconds: u32,
    /// For others to read.
    #[serde(default)]
    comment: String,
}

/// Have nobody told of some alerts for a time; they are listed all the same.
#[utoipa::path(post, path = "/silences", tag = "alerts", request_body = NewSilence,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same again is not carried out twice.")),
    responses((status = 201, description = "The silence.", body = SilenceView), Refusals, Problems))]
pub(super) async fn silence(
    asker: Asker,
    once: Once,
    Digested(given, digest): Digested<NewSilence>,
) -> Result<Response, Problem> {
    let (who, may) = (asker.by.who(), asker.may(Call::SilenceAlerts));
    once.carry_out(who, digest, may, make_silence(asker, given)).await
}

async fn make_silence(asker: Asker, given: NewSilence) -> Answer<SilenceView> {
    let NewSilence { only, seconds, comment } = given;
    let request = asker.request(v1::SilenceAlertsRequest { only, span_seconds: seconds, comment });
    let silence = asker.api.silence_alerts(request).await?.into_inner().silence;
    Ok(Shown::created(SilenceView::from(&silence.unwrap_or_default())))
}

/// End a silence.
#[utoipa::path(delete, path = "/silences/{id}", tag = "alerts",
    params(("id" = String, Path, description = "As the list has it.")),
    responses((status = 200, description = "It is over.", body = Done), Refusals, Problems))]
pub(super) async fn unsilence(asker: Asker, Named(id): Named) -> Answer<Done> {
    asker.api.unsilence_alerts(asker.request(v1::UnsilenceAlertsRequest { id })).await?;
    Ok(Shown::ok(Done {}))
}

/// The rules, also those that come with this version.
#[utoipa::path(get, path = "/alert-rules", tag = "alerts", params(IfNoneMatch),
    responses((status = 200, description = "All of them; the ETag is their generation, once there is one.", body = RulesView), Unchanged, Problems))]
pub(super) async fn list_rules(asker: Asker) -> Answer<RulesView> {
    let request = asker.request(v1::ListAlertRulesRequest {});
    let listed = asker.api.list_alert_rules(request).await?.into_inner();
    Ok(rules_shown(&listed))
}

/// Before the first change there is no generation that a change could be asked for on: 0 on the wire is any.
fn rules_shown(listed: &v1::ListAlertRulesResponse) -> Shown<RulesView> {
    let shown = Shown::ok(RulesView::from(listed));
    if listed.generation > 0 { shown.tagged(listed.generation) } else { shown }
}

/// Rules as a file has them.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenRules {
    rules: Vec<RuleFile>,
}

/// Make rules, or change those of the same name: all of these, or none. Rules that are not named stay.
#[utoipa::path(post, path = "/alert-rules", tag = "alerts",
    params(IfMatch),
    request_body = GivenRules,
    responses((status = 200, description = "All rules; the ETag is their generation.", body = RulesView), Refusals, Problems))]
pub(super) async fn apply_rules(
    asker: Asker,
    Given(given): Given<GivenRules>,
) -> Answer<RulesView> {
    rules_given(asker, given, false).await
}

/// Would these rules be taken? Nothing is changed.
#[utoipa::path(post, path = "/alert-rules/check", tag = "alerts", request_body = GivenRules,
    responses((status = 200, description = "They would: the rules as they would be.", body = RulesView), Refusals, Problems))]
pub(super) async fn check_rules(
    asker: Asker,
    Given(given): Given<GivenRules>,
) -> Answer<RulesView> {
    rules_given(asker, given, true).await
}

async fn rules_given(asker: Asker, given: GivenRules, dry_run: bool) -> Answer<RulesView> {
    let rules = given.rules.iter().enumerate();
    let rules = rules.map(|(index, rule)| {
        rule.to_wire(&format!("rules[{index}]"))
            .map_err(|told| wrong_shape(&format!("rules[{index}]"), told))
    });
    let rules = rules.collect::<Result<_, _>>()?;
    let request = asker.request(v1::ApplyAlertRulesRequest { rules, generation: 0, dry_run });
    let v1::ApplyAlertRulesResponse { rules, generation } =
        asker.api.apply_alert_rules(request).await?.into_inner();
    Ok(rules_shown(&v1::ListAlertRulesResponse { rules, generation }))
}

fn wrong_shape(field: &str, told: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidField", told).field(field)
}

/// Delete a rule; one that took the place of a rule that comes with this version gives it back.
#[utoipa::path(delete, path = "/alert-rules/{rule}", tag = "alerts",
    params(("rule" = String, Path, description = "Its name."), IfMatch),
    responses((status = 200, description = "It is gone.", body = Done), Refusals, Problems))]
pub(super) async fn delete_rule(asker: Asker, Named(name): Named) -> Answer<Done> {
    asker.api.delete_alert_rule(asker.request(v1::DeleteAlertRuleRequest { name })).await?;
    Ok(Shown::ok(Done {}))
}

/// Channels, how they do, and what could not be delivered.
#[utoipa::path(get, path = "/alert-channels", tag = "alerts",
    responses((status = 200, description = "All of them, without secrets.", body = ChannelsView), Problems))]
pub(super) async fn list_channels(asker: Asker) -> Answer<ChannelsView> {
    let request = asker.request(v1::ListAlertChannelsRequest {});
    let listed = asker.api.list_alert_channels(request).await?.into_inner();
    Ok(Shown::ok(ChannelsView::from(&listed)))
}

/// Channels as a file has them, but that secrets and certificates stand here themselves.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenChannels {
    channels: Vec<NewChannel>,
}

/// A channel, with exactly one of `webhook`, `command`, `smtp` and `mqtt`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewChannel {
    name: String,
    /// What is less is not told there.
    #[schema(inline)]
    severity: Option<SeverityParam>,
    /// As in the list of alerts.
    #[serde(default)]
    only: String,
    /// Only what nobody acknowledged in time.
    #[serde(default)]
    escalations: bool,
    #[serde(default)]
    no_resolved: bool,
    /// Such as `10s`.
    timeout: Option<String>,
    #[serde(default)]
    per_minute: u32,
    #[serde(default)]
    disabled: bool,
    webhook: Option<NewWebhook>,
    command: Option<Vec<String>>,
    smtp: Option<NewSmtp>,
    mqtt: Option<NewMqtt>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    url: String,
    /// `json`, `slack` or `mattermost`.
    #[serde(default)]
    body: String,
    /// Of the signature in the header.
    #[serde(default)]
    key: String,
    /// PEM; absent: an authority that the system knows.
    #[serde(default)]
    ca_certificate: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSmtp {
    host: String,
    port: u32,
    /// `tls`, `starttls` or `none`.
    #[serde(default)]
    protection: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    from: String,
    to: Vec<String>,
    #[serde(default)]
    ca_certificate: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMqtt {
    host: String,
    port: u32,
    /// `tls` or `none`.
    #[serde(default)]
    protection: String,
    topic: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    ca_certificate: String,
}

impl NewChannel {
    fn into_wire(self, field: &str) -> Result<v1::AlertChannel, Problem> {
        let webhook = self.webhook.map(|w| {
            Way::Webhook(v1::WebhookChannel {
                url: w.url,
                body: w.body,
                key: w.key,
                ca_certificate: w.ca_certificate,
            })
        });
        let command = self.command.map(|argv| Way::Command(v1::CommandChannel { argv }));
        let smtp = self.smtp.map(|w| {
            Way::Smtp(v1::SmtpChannel {
                host: w.host,
                port: w.port,
                protection: w.protection,
                user: w.user,
                password: w.password,
                from: w.from,
                to: w.to,
                ca_certificate: w.ca_certificate,
            })
        });
        let mqtt = self.mqtt.map(|w| {
            Way::Mqtt(v1::MqttChannel {
                host: w.host,
                port: w.port,
                protection: w.protection,
                topic: w.topic,
                user: w.user,
                password: w.password,
                ca_certificate: w.ca_certificate,
            })
        });
        let mut ways = [webhook, command, smtp, mqtt].into_iter().flatten();
        let (Some(way), None) = (ways.next(), ways.next()) else {
            let told = format!("{field}: has exactly one of webhook, command, smtp and mqtt");
            return Err(wrong_shape(field, told));
        };
        let timeout = self.timeout.as_deref().map(parse_duration).transpose();
        let timeout =
            timeout.map_err(|told| wrong_shape(field, format!("{field}.timeout: {told}")))?;
        Ok(v1::AlertChannel {
            name: self.name,
            severity: SeverityParam::wire(Some(self.severity.unwrap_or(SeverityParam::Info))),
            only: self.only,
            escalations: self.escalations,
            no_resolved: self.no_resolved,
            timeout_seconds: timeout.map_or(0, whole_seconds),
            per_minute: self.per_minute,
            disabled: self.disabled,
            way: Some(way),
        })
    }
}

/// Make channels, or change those of the same name: all of these, or none. Channels that are not named stay.
#[utoipa::path(post, path = "/alert-channels", tag = "alerts", request_body = GivenChannels,
    responses((status = 200, description = "These channels, without secrets.", body = ChannelsView), Refusals, Problems))]
pub(super) async fn apply_channels(
    asker: Asker,
    Given(given): Given<GivenChannels>,
) -> Answer<ChannelsView> {
    let channels = given.channels.into_iter().enumerate();
    let channels =
        channels.map(|(index, channel)| channel.into_wire(&format!("channels[{index}]")));
    let channels = channels.collect::<Result<_, _>>()?;
    let request = asker.request(v1::ApplyAlertChannelsRequest { channels });
    let channels = asker.api.apply_alert_channels(request).await?.into_inner().channels;
    let listed = v1::ListAlertChannelsResponse { channels, dead_letters: Vec::new() };
    Ok(Shown::ok(ChannelsView::from(&listed)))
}

/// Delete a channel, and what waits for it.
#[utoipa::path(delete, path = "/alert-channels/{channel}", tag = "alerts",
    params(("channel" = String, Path, description = "Its name.")),
    responses((status = 200, description = "It is gone.", body = Done), Refusals, Problems))]
pub(super) async fn delete_channel(asker: Asker, Named(name): Named) -> Answer<Done> {
    asker.api.delete_alert_channel(asker.request(v1::DeleteAlertChannelRequest { name })).await?;
    Ok(Shown::ok(Done {}))
}

/// Whether it tells of anything.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    disabled: bool,
}

/// Switch a channel off or on again; its secrets stay. What waits for it goes once it is on.
#[utoipa::path(post, path = "/alert-channels/{channel}/switch", tag = "alerts", request_body = Switch,
    params(("channel" = String, Path, description = "Its name.")),
    responses((status = 200, description = "It is so.", body = Done), Refusals, Problems))]
pub(super) async fn switch_channel(
    asker: Asker,
    Named(name): Named,
    Given(Switch { disabled }): Given<Switch>,
) -> Answer<Done> {
    let request = v1::SwitchAlertChannelRequest { name, disabled };
    asker.api.switch_alert_channel(asker.request(request)).await?;
    Ok(Shown::ok(Done {}))
}

/// Have a channel tell that this is a test; answered once it has.
#[utoipa::path(post, path = "/alert-channels/{channel}/test", tag = "alerts",
    params(("channel" = String, Path, description = "Its name.")),
    responses((status = 200, description = "It was delivered.", body = Done), Refusals, Problems))]
pub(super) async fn test_channel(asker: Asker, Named(name): Named) -> Answer<Done> {
    asker.api.test_alert_channel(asker.request(v1::TestAlertChannelRequest { name })).await?;
    Ok(Shown::ok(Done {}))
}

/// Which dead letters.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Letters {
    /// Of 1 to 32 dead letters, as the list of channels has them.
    ids: Vec<String>,
}

/// Have notifications that were given up wait for their channels again, each under the key that it had: all of these,
/// or none.
#[utoipa::path(post, path = "/dead-letters/resend", tag = "alerts", request_body = Letters,
    responses((status = 200, description = "They wait.", body = Done), Refusals, Problems))]
pub(super) async fn resend_letters(
    asker: Asker,
    Given(Letters { ids }): Given<Letters>,
) -> Answer<Done> {
    asker.api.resend_dead_letters(asker.request(v1::ResendDeadLettersRequest { ids })).await?;
    Ok(Shown::ok(Done {}))
}

/// Forget notifications that were given up: all of these, or none.
#[utoipa::path(post, path = "/dead-letters/clear", tag = "alerts", request_body = Letters,
    responses((status = 200, description = "They are forgotten.", body = Done), Refusals, Problems))]
pub(super) async fn clear_letters(
    asker: Asker,
    Given(Letters { ids }): Given<Letters>,
) -> Answer<Done> {
    asker.api.clear_dead_letters(asker.request(v1::ClearDeadLettersRequest { ids })).await?;
    Ok(Shown::ok(Done {}))
}
