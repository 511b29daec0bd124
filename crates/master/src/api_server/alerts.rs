//! Alerts, their rules and channels (HLD §11.3).

use std::time::Duration;

use piccolo_core::{
    api_server::{Call, Refusal},
    model::check_text,
    monitoring_server::alerts::{
        alert::Id,
        matcher::Matcher,
        requests::{AlertAnswer, AlertRequest},
    },
    state_manager::{Answer, Request},
};
use piccolo_rpc::{
    convert::{alert_channel, alert_id, alert_rule, alert_silence},
    tls::acceptor::peer_of,
    v1,
};
use tonic::{Request as Asked, Response, Status};

use super::{
    Answered, Api, Streamed,
    caller::{DEADLINE, unexpected},
    watches::{Over, Watcher},
};
use crate::alerts::board::Shown;

/// For a channel's own time limit to be over first.
const TEST_DEADLINE: Duration = Duration::from_secs(75);
/// Of a rule's or a channel's name, in a request.
const NAME_BYTES_MAX: usize = 64;
/// Rules or channels of one request at most.
const ITEMS_MAX: usize = 256;

impl Api {
    async fn alert_call<T>(
        &self,
        request: Asked<T>,
        call: Call,
        deadline: Duration,
        convert: impl FnOnce(T) -> Result<AlertRequest, Refusal>,
    ) -> Result<AlertAnswer, Status> {
        let convert = |wire| Ok(Request::Alert(Box::new(convert(wire)?)));
        let answer = self.call_within(request, call, deadline, convert).await?;
        // a test of a channel is answered late, and by nothing but that it is done
        if answer == Answer::Done {
            return Ok(AlertAnswer::Done);
        }
        let Answer::Alert(answer) = answer else { return Err(unexpected(call)) };
        Ok(*answer)
    }
}

pub(super) async fn list(
    api: &Api,
    request: Asked<v1::ListAlertsRequest>,
) -> Answered<v1::ListAlertsResponse> {
    let call = Call::ListAlerts;
    let convert = |w: v1::ListAlertsRequest| {
        Ok(AlertRequest::List { only: Matcher::parse("only", &w.only)?, over: w.resolved })
    };
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Alerts { alerts, silences, refused, .. } = answer else {
        return Err(unexpected(call));
    };
    Ok(Response::new(v1::ListAlertsResponse {
        alerts: alerts.into_iter().map(Into::into).collect(),
        silences: silences.into_iter().map(Into::into).collect(),
        refused,
    }))
}

pub(super) async fn acknowledge(
    api: &Api,
    request: Asked<v1::AcknowledgeAlertsRequest>,
) -> Answered<v1::AcknowledgeAlertsResponse> {
    let call = Call::AcknowledgeAlerts;
    let convert = |w: v1::AcknowledgeAlertsRequest| {
        Ok(AlertRequest::Acknowledge { ids: ids_of(&w.ids)?, comment: w.comment })
    };
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Acknowledged(alerts) = answer else { return Err(unexpected(call)) };
    Ok(Response::new(v1::AcknowledgeAlertsResponse {
        alerts: alerts.into_iter().map(Into::into).collect(),
    }))
}

pub(super) async fn silence(
    api: &Api,
    request: Asked<v1::SilenceAlertsRequest>,
) -> Answered<v1::SilenceAlertsResponse> {
    let call = Call::SilenceAlerts;
    let convert = |w| Ok(alert_silence(w)?);
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Silenced(silence) = answer else { return Err(unexpected(call)) };
    Ok(Response::new(v1::SilenceAlertsResponse { silence: Some(silence.into()) }))
}

pub(super) async fn unsilence(
    api: &Api,
    request: Asked<v1::UnsilenceAlertsRequest>,
) -> Answered<v1::UnsilenceAlertsResponse> {
    let convert =
        |w: v1::UnsilenceAlertsRequest| Ok(AlertRequest::Unsilence(alert_id("id", &w.id)?));
    api.alert_call(request, Call::UnsilenceAlerts, DEADLINE, convert).await?;
    Ok(Response::new(v1::UnsilenceAlertsResponse {}))
}

pub(super) async fn list_rules(
    api: &Api,
    request: Asked<v1::ListAlertRulesRequest>,
) -> Answered<v1::ListAlertRulesResponse> {
    let call = Call::ListAlertRules;
    let convert = |_: v1::ListAlertRulesRequest| Ok(AlertRequest::ListRules);
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Rules { rules, generation } = answer else { return Err(unexpected(call)) };
    let rules = rules.into_iter().map(Into::into).collect();
    Ok(Response::new(v1::ListAlertRulesResponse { rules, generation }))
}

pub(super) async fn apply_rules(
    api: &Api,
    request: Asked<v1::ApplyAlertRulesRequest>,
) -> Answered<v1::ApplyAlertRulesResponse> {
    let call = Call::ApplyAlertRules;
    let convert = |w: v1::ApplyAlertRulesRequest| {
        let rules = w.rules.into_iter().take(ITEMS_MAX).enumerate();
        let rules = rules.map(|(index, rule)| alert_rule(&format!("rules[{index}]"), rule));
        Ok(AlertRequest::ApplyRules {
            rules: rules.collect::<Result<_, _>>()?,
            generation: w.generation,
            dry_run: w.dry_run,
        })
    };
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Rules { rules, generation } = answer else { return Err(unexpected(call)) };
    let rules = rules.into_iter().map(Into::into).collect();
    Ok(Response::new(v1::ApplyAlertRulesResponse { rules, generation }))
}

pub(super) async fn delete_rule(
    api: &Api,
    request: Asked<v1::DeleteAlertRuleRequest>,
) -> Answered<v1::DeleteAlertRuleResponse> {
    let convert = |w: v1::DeleteAlertRuleRequest| Ok(AlertRequest::DeleteRule(named(w.name)?));
    api.alert_call(request, Call::DeleteAlertRule, DEADLINE, convert).await?;
    Ok(Response::new(v1::DeleteAlertRuleResponse {}))
}

pub(super) async fn list_channels(
    api: &Api,
    request: Asked<v1::ListAlertChannelsRequest>,
) -> Answered<v1::ListAlertChannelsResponse> {
    let call = Call::ListAlertChannels;
    let convert = |_: v1::ListAlertChannelsRequest| Ok(AlertRequest::ListChannels);
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Channels { channels, dead_letters } = answer else {
        return Err(unexpected(call));
    };
    Ok(Response::new(v1::ListAlertChannelsResponse {
        channels: channels.into_iter().map(Into::into).collect(),
        dead_letters: dead_letters.into_iter().map(Into::into).collect(),
    }))
}

pub(super) async fn apply_channels(
    api: &Api,
    request: Asked<v1::ApplyAlertChannelsRequest>,
) -> Answered<v1::ApplyAlertChannelsResponse> {
    let call = Call::ApplyAlertChannels;
    let convert = |w: v1::ApplyAlertChannelsRequest| {
        let channels = w.channels.into_iter().take(ITEMS_MAX).enumerate();
        let channels =
            channels.map(|(index, channel)| alert_channel(&format!("channels[{index}]"), channel));
        Ok(AlertRequest::ApplyChannels(channels.collect::<Result<_, _>>()?))
    };
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Channels { channels, .. } = answer else { return Err(unexpected(call)) };
    let channels = channels.into_iter().map(Into::into).collect();
    Ok(Response::new(v1::ApplyAlertChannelsResponse { channels }))
}

pub(super) async fn delete_channel(
    api: &Api,
    request: Asked<v1::DeleteAlertChannelRequest>,
) -> Answered<v1::DeleteAlertChannelResponse> {
    let convert =
        |w: v1::DeleteAlertChannelRequest| Ok(AlertRequest::DeleteChannel(named(w.name)?));
    api.alert_call(request, Call::DeleteAlertChannel, DEADLINE, convert).await?;
    Ok(Response::new(v1::DeleteAlertChannelResponse {}))
}

pub(super) async fn switch_channel(
    api: &Api,
    request: Asked<v1::SwitchAlertChannelRequest>,
) -> Answered<v1::SwitchAlertChannelResponse> {
    let call = Call::SwitchAlertChannel;
    let name = request.get_ref().name.clone();
    let convert = |w: v1::SwitchAlertChannelRequest| {
        Ok(AlertRequest::SwitchChannel { name: named(w.name)?, disabled: w.disabled })
    };
    let answer = api.alert_call(request, call, DEADLINE, convert).await?;
    let AlertAnswer::Channels { channels, .. } = answer else { return Err(unexpected(call)) };
    let channel = channels.into_iter().find(|view| view.channel.name == name).map(Into::into);
    Ok(Response::new(v1::SwitchAlertChannelResponse { channel }))
}

pub(super) async fn test_channel(
    api: &Api,
    request: Asked<v1::TestAlertChannelRequest>,
) -> Answered<v1::TestAlertChannelResponse> {
    let convert = |w: v1::TestAlertChannelRequest| Ok(AlertRequest::TestChannel(named(w.name)?));
    api.alert_call(request, Call::TestAlertChannel, TEST_DEADLINE, convert).await?;
    Ok(Response::new(v1::TestAlertChannelResponse {}))
}

pub(super) async fn resend_dead_letters(
    api: &Api,
    request: Asked<v1::ResendDeadLettersRequest>,
) -> Answered<v1::ResendDeadLettersResponse> {
    let convert =
        |w: v1::ResendDeadLettersRequest| Ok(AlertRequest::ResendDeadLetters(ids_of(&w.ids)?));
    api.alert_call(request, Call::ResendDeadLetters, DEADLINE, convert).await?;
    Ok(Response::new(v1::ResendDeadLettersResponse {}))
}

pub(super) async fn clear_dead_letters(
    api: &Api,
    request: Asked<v1::ClearDeadLettersRequest>,
) -> Answered<v1::ClearDeadLettersResponse> {
    let convert =
        |w: v1::ClearDeadLettersRequest| Ok(AlertRequest::ClearDeadLetters(ids_of(&w.ids)?));
    api.alert_call(request, Call::ClearDeadLetters, DEADLINE, convert).await?;
    Ok(Response::new(v1::ClearDeadLettersResponse {}))
}

pub(super) async fn watch(
    api: &Api,
    request: Asked<v1::WatchAlertsRequest>,
) -> Answered<Streamed<v1::WatchAlertsResponse>> {
    let by = api.admit_read(&request, Call::WatchAlerts).await?;
    let connection = peer_of(&request).map(|peer| peer.connection);
    let (watcher, stream) = Watcher::new(api, &by, connection)?;
    tokio::spawn(watcher.follow(|watcher| Box::pin(changes(watcher))));
    Ok(Response::new(stream))
}

/// Every alert that is kept, that this is the whole, and then each change.
async fn changes(watcher: &mut Watcher<v1::WatchAlertsResponse>) -> Result<(), Over> {
    use v1::watch_alerts_response::Item;
    let board = std::sync::Arc::clone(&watcher.api.alerts);
    let mut changed = board.watch();
    let mut shown = Shown::default();
    let mut told = false;
    loop {
        changed.borrow_and_update();
        let (news, gone) = board.news(&mut shown);
        let news = news.into_iter().map(|alert| Item::Changed(alert.as_ref().clone().into()));
        let gone = gone.into_iter().map(|id| Item::Forgotten(id.to_string()));
        let end = (!told).then_some(Item::Told(v1::AlertsTold {}));
        told = true;
        for item in news.chain(gone).chain(end) {
            watcher.send(v1::WatchAlertsResponse { item: Some(item) }).await?;
        }
        watcher.wait(&mut changed).await?;
    }
}

fn ids_of(ids: &[String]) -> Result<Vec<Id>, Refusal> {
    let ids = ids.iter().take(ITEMS_MAX).enumerate();
    let ids = ids.map(|(index, id)| alert_id(&format!("ids[{index}]"), id));
    Ok(ids.collect::<Result<_, _>>()?)
}

fn named(name: String) -> Result<String, Refusal> {
    check_text("name", &name, NAME_BYTES_MAX)?;
    Ok(name)
}
